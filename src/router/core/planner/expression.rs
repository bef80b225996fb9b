//! SQL of single expressions, as they are or with parts replaced by names. Called where a statement is
//! split into one for the shards and one for the merge.

use crate::router::core::sql::{self, Node, nodes};
use pg_raw_parse::{
    make,
    transform::{Assignable, transform},
};

/// SQL of an expression.
pub fn sql(node: Node<'_>) -> Option<String> {
    replaced(node, &mut |_| None)
}

/// SQL of a type.
pub fn type_sql(name: &nodes::TypeName) -> Option<String> {
    let cast = make::owned(|mem| {
        let mut cast = mem.make_node::<nodes::TypeCast>();
        cast.as_mut().set_arg(mem.make_null().uncast());
        cast.as_mut().set_type_name(mem.make_unique(Some(name)));
        cast
    });
    let text = sql(Node::TypeCast(&cast))?;
    text.strip_prefix("NULL::").map(str::to_owned)
}

/// SQL of an expression in which every node that `replace` has a name for is a column of that name.
/// Names must be plain identifiers.
pub fn replaced(node: Node<'_>, replace: &mut dyn FnMut(Node<'_>) -> Option<String>) -> Option<String> {
    if let Some(name) = replace(node) {
        return Some(name);
    }
    let select = make::owned(|mem| {
        let mut value = mem.make_unique(node);
        transform(&mut value, |node: Assignable<'_, '_>| {
            let Some(name) = replace(node.as_ref()) else { return Some(node) };
            let fields = mem.make_list(&[mem.make_string(Some(&name)).uncast()]);
            node.replace(mem.make_column_ref(fields).uncast());
            None
        });
        let target = mem.make_res_target(None, mem.empty(), value);
        let mut select = mem.make_node::<nodes::SelectStmt>();
        select.as_mut().set_target_list(mem.make_list(&[target]));
        select
    });
    let text = sql::deparse(&*select)?;
    text.strip_prefix("SELECT ").map(str::to_owned)
}
