-- Everything about one table that its copies on the shards are made of. $TABLE is replaced by a quoted
-- literal; one row, one column: JSON, or no row where there is no such relation.
SELECT json_build_object(
    'oid', c.oid::bigint,
    'schema', n.nspname,
    'name', c.relname,
    'quoted', format('%I.%I', n.nspname, c.relname),
    'kind', c.relkind,
    'persistence', c.relpersistence,
    'owner', c.relowner::regrole::text,
    'owner_is_me', pg_get_userbyid(c.relowner) = current_user,
    'owned', pg_has_role(current_user, c.relowner, 'USAGE'),
    'options', array_to_string(c.reloptions, ', '),
    'partition', c.relispartition,
    'inherits', EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid OR i.inhparent = c.oid
                           AND NOT EXISTS (SELECT FROM howdah.tables t WHERE t.relation = c.oid)),
    'row_security', c.relrowsecurity,
    'rules', EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'),
    'triggers', (SELECT coalesce(json_agg(t.tgname), '[]') FROM pg_trigger t
                  WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname <> 'howdah_guard'),
    'distributed', (SELECT json_build_object('kind', d.kind, 'colocation', d.colocation,
                                             'key', (SELECT a.attname FROM pg_attribute a
                                                      WHERE a.attrelid = d.relation AND a.attnum = d.key_attnum))
                      FROM howdah.tables d WHERE d.relation = c.oid),
    'comment', obj_description(c.oid, 'pg_class'),
    'grants', (SELECT coalesce(json_agg(json_build_object(
                   'grantee', CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
                   'privilege', g.privilege_type, 'grantable', g.is_grantable)), '[]')
                 FROM aclexplode(c.relacl) g WHERE g.grantee <> c.relowner),
    'columns', (SELECT json_agg(json_build_object(
                    'name', a.attname,
                    'quoted', quote_ident(a.attname),
                    'type', format_type(a.atttypid, a.atttypmod),
                    'base_type', format_type(a.atttypid, NULL),
                    'type_oid', a.atttypid::bigint,
                    'type_kind', t.typtype,
                    'collation', CASE WHEN a.attcollation <> t.typcollation
                                      THEN format('%I.%I', cn.nspname, k.collname) END,
                    'deterministic', coalesce(k.collisdeterministic, true),
                    'not_null', a.attnotnull,
                    'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                    'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                    'identity', a.attidentity <> '',
                    'comment', col_description(c.oid, a.attnum),
                    'sequence', (SELECT json_build_object(
                                     'quoted', format('%I.%I', sn.nspname, s.relname),
                                     'type', format_type(q.seqtypid, NULL), 'increment', q.seqincrement,
                                     'cache', q.seqcache)
                                   FROM pg_depend p
                                   JOIN pg_class s ON s.oid = CASE WHEN p.classid = 'pg_class'::regclass
                                                                   THEN p.objid ELSE p.refobjid END
                                   JOIN pg_namespace sn ON sn.oid = s.relnamespace
                                   JOIN pg_sequence q ON q.seqrelid = s.oid
                                  WHERE (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                                         AND p.refclassid = 'pg_class'::regclass AND s.relkind = 'S')
                                     OR (p.classid = 'pg_class'::regclass AND p.deptype = 'i'
                                         AND p.refclassid = 'pg_class'::regclass
                                         AND p.refobjid = c.oid AND p.refobjsubid = a.attnum AND s.relkind = 'S')
                                  LIMIT 1)
                ) ORDER BY a.attnum)
                  FROM pg_attribute a
                  JOIN pg_type t ON t.oid = a.atttypid
                  LEFT JOIN pg_collation k ON k.oid = a.attcollation
                  LEFT JOIN pg_namespace cn ON cn.oid = k.collnamespace
                  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'constraints', (SELECT coalesce(json_agg(json_build_object(
                        'name', quote_ident(o.conname), 'kind', o.contype, 'definition', pg_get_constraintdef(o.oid),
                        'columns', (SELECT json_agg(a.attname ORDER BY u.number)
                                      FROM unnest(o.conkey) WITH ORDINALITY u (attnum, number)
                                      JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = u.attnum),
                        'target', (SELECT json_build_object(
                                       'schema', fn.nspname, 'name', f.relname,
                                       'quoted', format('%I.%I', fn.nspname, f.relname), 'oid', f.oid::bigint,
                                       'kind', ft.kind, 'colocation', ft.colocation,
                                       'key', (SELECT a.attname FROM pg_attribute a
                                                WHERE a.attrelid = f.oid AND a.attnum = ft.key_attnum),
                                       'columns', (SELECT json_agg(a.attname ORDER BY u.number)
                                                     FROM unnest(o.confkey) WITH ORDINALITY u (attnum, number)
                                                     JOIN pg_attribute a ON a.attrelid = f.oid
                                                                        AND a.attnum = u.attnum))
                                     FROM pg_class f
                                     JOIN pg_namespace fn ON fn.oid = f.relnamespace
                                     LEFT JOIN howdah.tables ft ON ft.relation = f.oid
                                    WHERE f.oid = o.confrelid)
                    ) ORDER BY o.contype, o.conname), '[]')
                      FROM pg_constraint o WHERE o.conrelid = c.oid AND o.contype IN ('p', 'u', 'x', 'c', 'f')),
    'referenced_by', (SELECT coalesce(json_agg(json_build_object(
                          'name', o.conname, 'table', o.conrelid::regclass::text,
                          'kind', (SELECT t.kind FROM howdah.tables t WHERE t.relation = o.conrelid))), '[]')
                        FROM pg_constraint o
                       WHERE o.confrelid = c.oid AND o.conrelid <> c.oid AND o.contype = 'f'),
    'indexes', (SELECT coalesce(json_agg(json_build_object(
                    'name', i.relname, 'unique', x.indisunique, 'definition', pg_get_indexdef(i.oid),
                    'columns', (SELECT json_agg(a.attname ORDER BY u.number)
                                  FROM unnest(x.indkey::smallint[]) WITH ORDINALITY u (attnum, number)
                                  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum)
                ) ORDER BY i.relname), '[]')
                  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                 WHERE x.indrelid = c.oid AND x.indisvalid
                   AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.oid AND o.conrelid = c.oid))
)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = $TABLE::oid
