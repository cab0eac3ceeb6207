//! b
fn main() {
    println!("hi");
}
