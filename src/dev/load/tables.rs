//! The eight tables of TPC-H (specification 1.4), how they are distributed, and their rows. Called by
//! the loader.

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

use super::rows::Chunks;

/// One table.
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Its CREATE TABLE.
    pub create: &'static str,
    /// Says where its rows live.
    pub distribute: &'static str,
    /// Makes its rows at a scale.
    pub rows: fn(f64, &mut Chunks),
}

/// In an order that suits foreign keys, should somebody add them.
pub const TABLES: [Table; 8] = [
    Table {
        name: "region",
        create: "CREATE TABLE region (r_regionkey integer PRIMARY KEY, r_name char(25) NOT NULL, \
                 r_comment varchar(152))",
        distribute: "SELECT create_reference_table('region')",
        rows: |scale, out| out.all(RegionGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "nation",
        create: "CREATE TABLE nation (n_nationkey integer PRIMARY KEY, n_name char(25) NOT NULL, \
                 n_regionkey integer NOT NULL, n_comment varchar(152))",
        distribute: "SELECT create_reference_table('nation')",
        rows: |scale, out| out.all(NationGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "supplier",
        create: "CREATE TABLE supplier (s_suppkey bigint PRIMARY KEY, s_name char(25) NOT NULL, \
                 s_address varchar(40) NOT NULL, s_nationkey integer NOT NULL, s_phone char(15) NOT NULL, \
                 s_acctbal numeric(15,2) NOT NULL, s_comment varchar(101) NOT NULL)",
        distribute: "SELECT create_distributed_table('supplier', 's_suppkey')",
        rows: |scale, out| out.all(SupplierGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "part",
        create: "CREATE TABLE part (p_partkey bigint PRIMARY KEY, p_name varchar(55) NOT NULL, p_mfgr char(25) NOT NULL, \
                 p_brand char(10) NOT NULL, p_type varchar(25) NOT NULL, p_size integer NOT NULL, \
                 p_container char(10) NOT NULL, p_retailprice numeric(15,2) NOT NULL, p_comment varchar(23) NOT NULL)",
        distribute: "SELECT create_distributed_table('part', 'p_partkey')",
        rows: |scale, out| out.all(PartGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "partsupp",
        create: "CREATE TABLE partsupp (ps_partkey bigint NOT NULL, ps_suppkey bigint NOT NULL, \
                 ps_availqty integer NOT NULL, ps_supplycost numeric(15,2) NOT NULL, ps_comment varchar(199) NOT NULL, \
                 PRIMARY KEY (ps_partkey, ps_suppkey))",
        distribute: "SELECT create_distributed_table('partsupp', 'ps_partkey', colocate_with => 'part')",
        rows: |scale, out| out.all(PartSuppGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "customer",
        create: "CREATE TABLE customer (c_custkey bigint PRIMARY KEY, c_name varchar(25) NOT NULL, \
                 c_address varchar(40) NOT NULL, c_nationkey integer NOT NULL, c_phone char(15) NOT NULL, \
                 c_acctbal numeric(15,2) NOT NULL, c_mktsegment char(10) NOT NULL, c_comment varchar(117) NOT NULL)",
        distribute: "SELECT create_distributed_table('customer', 'c_custkey')",
        rows: |scale, out| out.all(CustomerGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "orders",
        create: "CREATE TABLE orders (o_orderkey bigint PRIMARY KEY, o_custkey bigint NOT NULL, \
                 o_orderstatus char(1) NOT NULL, o_totalprice numeric(15,2) NOT NULL, o_orderdate date NOT NULL, \
                 o_orderpriority char(15) NOT NULL, o_clerk char(15) NOT NULL, o_shippriority integer NOT NULL, \
                 o_comment varchar(79) NOT NULL)",
        distribute: "SELECT create_distributed_table('orders', 'o_orderkey')",
        rows: |scale, out| out.all(OrderGenerator::new(scale, 1, 1).iter()),
    },
    Table {
        name: "lineitem",
        create: "CREATE TABLE lineitem (l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, \
                 l_linenumber integer NOT NULL, l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, \
                 l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, \
                 l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, \
                 l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, \
                 l_comment varchar(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber))",
        distribute: "SELECT create_distributed_table('lineitem', 'l_orderkey', colocate_with => 'orders')",
        rows: |scale, out| out.all(LineItemGenerator::new(scale, 1, 1).iter()),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_value_for_every_column() {
        for table in &TABLES {
            let (send, mut chunks) = tokio::sync::mpsc::channel(1000);
            (table.rows)(0.001, &mut Chunks::new(send));
            let first = chunks.blocking_recv().expect("rows");
            let line = first.bytes.split(|byte| *byte == b'\n').next().expect("a row");
            let values = line.split(|byte| *byte == b'\t').count();
            let columns = table.create.matches("NOT NULL,").count();
            assert!(values >= columns, "{}: {values} values", table.name);
            assert!(!line.contains(&b'\\'), "{}", table.name);
        }
    }
}
