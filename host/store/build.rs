//! Rebuilds the crate when what its macros read has changed: the migrations and the offline query data.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
    println!("cargo::rerun-if-changed=.sqlx");
}
