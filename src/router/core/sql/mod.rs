//! The door to the SQL parser: text in, our small view out. Nothing else names the parser's crate
//! but what is below this folder's neighbours in `core`, so that it can be exchanged.

pub mod keywords;
