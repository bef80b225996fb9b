//! A value of the product with a hash of its own: the product's types need none, and a model's states
//! are told apart by theirs. Cheap to clone.

use std::{
    fmt::{self, Debug},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

pub struct Hashed<T> {
    value: Arc<T>,
    /// Of all that `Debug` shows, which is everything for the plain data that is kept here.
    pub hash: u64,
}

impl<T: Debug> Hashed<T> {
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        format!("{value:?}").hash(&mut hasher);
        Self { value: Arc::new(value), hash: hasher.finish() }
    }
}

impl<T: Clone> Hashed<T> {
    /// The value itself.
    pub fn value(&self) -> T {
        T::clone(&self.value)
    }
}

impl<T> Clone for Hashed<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), hash: self.hash }
    }
}

impl<T> PartialEq for Hashed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Hashed<T> {}

impl<T> Hash for Hashed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl<T> Deref for Hashed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Debug> Debug for Hashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
