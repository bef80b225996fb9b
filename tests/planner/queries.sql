SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base_price,
       sum(l_extendedprice * (1 - l_discount)) AS sum_disc_price, sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
       avg(l_quantity) AS avg_qty, avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS count_order
  FROM lineitem WHERE l_shipdate <= date '1998-12-01' - interval '90' day
 GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus;
SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, o_shippriority
  FROM customer, orders, lineitem
 WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey
   AND o_orderdate < date '1995-03-15' AND l_shipdate > date '1995-03-15'
 GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate LIMIT 10;
SELECT o_orderpriority, count(*) AS order_count FROM orders
 WHERE o_orderdate >= date '1993-07-01' AND o_orderdate < date '1993-07-01' + interval '3' month
   AND EXISTS (SELECT * FROM lineitem WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate)
 GROUP BY o_orderpriority ORDER BY o_orderpriority;
SELECT n_name, sum(l_extendedprice * (1 - l_discount)) AS revenue FROM customer, orders, lineitem, nation
 WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND c_nationkey = n_nationkey
 GROUP BY n_name ORDER BY revenue DESC;
SELECT sum(l_extendedprice * l_discount) AS revenue FROM lineitem
 WHERE l_shipdate >= date '1994-01-01' AND l_shipdate < date '1994-01-01' + interval '1' year
   AND l_discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01 AND l_quantity < 24;
SELECT c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) AS revenue, c_acctbal, n_name
  FROM customer, orders, lineitem, nation
 WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND l_returnflag = 'R' AND c_nationkey = n_nationkey
 GROUP BY c_custkey, c_name, c_acctbal, n_name ORDER BY revenue DESC LIMIT 20;
SELECT l_shipmode,
       sum(CASE WHEN o_orderpriority = '1-PRIO' OR o_orderpriority = '2-PRIO' THEN 1 ELSE 0 END) AS high_line_count,
       sum(CASE WHEN o_orderpriority <> '1-PRIO' AND o_orderpriority <> '2-PRIO' THEN 1 ELSE 0 END) AS low_line_count
  FROM orders, lineitem WHERE o_orderkey = l_orderkey AND l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate
 GROUP BY l_shipmode ORDER BY l_shipmode;
SELECT 100.00 * sum(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END)
       / sum(l_extendedprice * (1 - l_discount)) AS promo_revenue
  FROM lineitem, part WHERE l_partkey = p_partkey AND l_shipdate >= date '1995-01-01';
SELECT c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) FROM customer, orders, lineitem
 WHERE o_orderkey IN (SELECT l_orderkey FROM lineitem GROUP BY l_orderkey HAVING sum(l_quantity) > 100)
   AND c_custkey = o_custkey AND o_orderkey = l_orderkey
 GROUP BY c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice ORDER BY o_totalprice DESC, o_orderdate LIMIT 100;
SELECT sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem, part
 WHERE (p_partkey = l_partkey AND p_brand = 'Brand#1' AND l_quantity >= 1 AND p_size BETWEEN 1 AND 5)
    OR (p_partkey = l_partkey AND p_brand = 'Brand#2' AND l_quantity >= 10 AND p_size BETWEEN 1 AND 10);
SELECT * FROM orders;
SELECT * FROM orders ORDER BY o_totalprice, o_orderkey LIMIT 7 OFFSET 3;
SELECT o_orderkey FROM orders ORDER BY o_null DESC NULLS LAST, -o_totalprice, 1 LIMIT 50;
SELECT o_letter, count(*) FROM orders GROUP BY o_letter ORDER BY o_letter;
SELECT o_letter FROM orders ORDER BY o_letter DESC, o_orderkey FETCH FIRST 30 ROWS ONLY;
SELECT min(o_letter), max(o_letter), min(o_orderpriority), max(o_orderdate) FROM orders;
SELECT DISTINCT o_null FROM orders ORDER BY o_null;
SELECT DISTINCT o_custkey, o_null FROM orders;
SELECT DISTINCT ON (o_custkey) o_custkey, o_orderkey FROM orders ORDER BY o_custkey, o_orderkey DESC;
SELECT count(o_null), count(*), sum(o_null), avg(o_null), avg(o_orderkey), sum(o_orderkey), avg(o_orderkey::numeric) FROM orders;
SELECT round(avg(o_real)::numeric, 4), round(avg(o_double)::numeric, 8), pg_typeof(avg(o_real)), pg_typeof(sum(o_null)), pg_typeof(avg(o_null)) FROM orders;
SELECT avg(l_shipdate - l_commitdate), avg(age(l_shipdate, l_commitdate)) - avg(age(l_shipdate, l_commitdate)) FROM lineitem;
SELECT count(*), sum(o_null), avg(o_null), max(o_letter), bool_and(o_null > 3) FROM orders WHERE o_orderkey < 0;
SELECT bool_and(o_null > 0), bool_or(o_null > 9), every(o_null IS NULL), bit_or(o_orderkey), bit_and(o_orderkey) FROM orders;
SELECT count(*) FILTER (WHERE o_null > 3), avg(o_totalprice) FILTER (WHERE o_null > 3) FROM orders;
SELECT count(DISTINCT o_custkey), sum(DISTINCT o_null), count(DISTINCT (o_null, o_custkey)) FROM orders;
SELECT o_orderpriority, count(DISTINCT o_custkey) FROM orders GROUP BY 1 ORDER BY 1;
SELECT string_agg(o_orderkey::text, ',' ORDER BY o_totalprice, o_orderkey) FROM orders;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY o_totalprice), percentile_disc(0.3) WITHIN GROUP (ORDER BY o_orderdate), stddev(o_totalprice), variance(o_null) FROM orders;
SELECT o_orderpriority AS p, extract(year FROM o_orderdate) AS y, max(o_totalprice) - min(o_totalprice) FROM orders GROUP BY p, y HAVING count(*) > 10 ORDER BY 3 DESC, p, y;
SELECT extract(year FROM o_orderdate), count(*) FROM orders GROUP BY extract(year FROM o_orderdate) ORDER BY extract(year FROM o_orderdate) DESC;
SELECT o_orderpriority, o_null, count(*), grouping(o_null) FROM orders GROUP BY ROLLUP (o_orderpriority, o_null) ORDER BY 1, 2, 4;
SELECT o_orderpriority, o_null, sum(o_totalprice) FROM orders GROUP BY GROUPING SETS ((o_orderpriority, o_null), (o_null), ()) ORDER BY 1, 2, 3;
SELECT o_orderkey, rank() OVER (PARTITION BY o_orderpriority ORDER BY o_totalprice DESC, o_orderkey) AS r FROM orders ORDER BY r, o_orderkey LIMIT 20;
SELECT o_orderkey, sum(o_totalprice) OVER (ORDER BY o_orderdate, o_orderkey ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders ORDER BY 1;
SELECT lower(o_orderpriority) AS o_orderpriority FROM orders ORDER BY o_orderpriority, o_orderkey LIMIT 9;
SELECT count(*) FROM (SELECT l_orderkey, count(*) AS n FROM lineitem GROUP BY l_orderkey) x WHERE n > 2;
SELECT n, count(*) FROM (SELECT l_orderkey, count(*) AS n FROM lineitem GROUP BY l_orderkey) x GROUP BY n ORDER BY n;
SELECT o_orderkey, l_linenumber FROM orders LEFT JOIN lineitem ON l_orderkey = o_orderkey AND l_quantity > 40 ORDER BY 1, 2;
SELECT count(*), count(l_orderkey), count(o_orderkey) FROM orders FULL JOIN lineitem ON l_orderkey = o_orderkey AND o_null > 3;
SELECT l_orderkey, count(*) FROM orders LEFT JOIN lineitem ON l_orderkey = o_orderkey AND l_quantity > 40 GROUP BY l_orderkey;
SELECT l_orderkey, count(*) FROM orders FULL JOIN lineitem ON l_orderkey = o_orderkey AND l_quantity > 40 GROUP BY l_orderkey;
SELECT o_orderkey FROM orders UNION SELECT l_orderkey FROM lineitem;
SELECT o_orderkey FROM orders EXCEPT SELECT l_orderkey FROM lineitem WHERE l_quantity > 30;
SELECT o_custkey FROM orders UNION ALL SELECT l_linenumber FROM lineitem;
SELECT o_orderkey, (SELECT max(l_quantity) FROM lineitem WHERE l_orderkey = o_orderkey) FROM orders ORDER BY 1;
SELECT o_orderkey FROM orders WHERE NOT EXISTS (SELECT FROM lineitem WHERE l_orderkey = o_orderkey AND l_quantity > 25);
WITH big AS (SELECT * FROM lineitem WHERE l_quantity > 40) SELECT o_orderpriority, count(*) FROM orders JOIN big ON o_orderkey = l_orderkey GROUP BY 1 ORDER BY 1;
SELECT o.o_orderkey, x.l_quantity FROM orders o, LATERAL (SELECT * FROM lineitem WHERE l_orderkey = o.o_orderkey ORDER BY l_quantity DESC, l_linenumber LIMIT 1) x ORDER BY 1;
SELECT 'const' AS c, count(*) + 1 AS n, coalesce(max(o_null), 0) || 'x' FROM orders;
SELECT sum(o_null)::int / 2, sum(o_null) / 2, -sum(o_totalprice), round(avg(o_totalprice), 2), CASE WHEN count(*) > 10 THEN 'many' ELSE 'few' END FROM orders;
SELECT count(*) FROM orders WHERE o_orderkey IN (1, 2, 3, 50);
SELECT o_custkey, sum(o_totalprice) AS s FROM orders GROUP BY o_custkey ORDER BY s DESC, o_custkey LIMIT 5 OFFSET 2;
SELECT o_custkey FROM orders GROUP BY o_custkey;
SELECT DISTINCT count(*) FROM orders GROUP BY o_custkey;
SELECT count(*) FROM orders HAVING count(*) > 1;
SELECT array_agg(o_orderkey ORDER BY o_orderkey) FROM orders WHERE o_orderkey < 20;
SELECT json_agg(o_orderkey ORDER BY o_orderkey DESC) FROM orders WHERE o_orderkey < 20;
SELECT o_null FROM orders ORDER BY o_null FETCH FIRST 3 ROWS WITH TIES;
SELECT o_orderkey FROM orders ORDER BY o_orderkey DESC OFFSET 590;
SELECT o_orderpriority, count(*) FROM orders GROUP BY ROLLUP (o_orderpriority) HAVING count(*) > 1 ORDER BY 2, 1 LIMIT 3;
SELECT o_letter, rank() OVER (ORDER BY o_letter DESC) FROM orders ORDER BY o_letter, 2;
