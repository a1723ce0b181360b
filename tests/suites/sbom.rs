//! The bills of materials name what the shipped binaries are made of.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeSet, fs, process::Command};

use mapa_refresh_tests::{
    images, process,
    sbom::{self, SHIPPED, Shipped, TARGET},
};
use serde_json::Value;

/// (name, version) of every crate that the binary links, as cargo resolves it from Cargo.lock.
fn linked(shipped: &Shipped) -> BTreeSet<(String, String)> {
    let mut tree = Command::new("cargo");
    tree.current_dir(images::repository())
        .args(["tree", "--locked", "--package", shipped.package, "--target", TARGET])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .args(shipped.features);
    let said = process::output("ask cargo for the crates", &mut tree).unwrap();
    said.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((
                words.next()?.to_owned(),
                words.next()?.trim_start_matches('v').to_owned(),
            ))
        })
        .collect()
}

#[test]
fn each_bill_names_every_crate_that_its_binary_links_and_is_the_same_when_it_is_written_again() {
    let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let bills = sbom::write(one.path()).unwrap();
    sbom::write(two.path()).unwrap();
    assert_eq!(bills.len(), SHIPPED.len());
    for (shipped, bill) in SHIPPED.iter().zip(bills) {
        let text = fs::read_to_string(&bill).unwrap();
        let again = fs::read_to_string(two.path().join(bill.file_name().unwrap())).unwrap();
        assert!(text == again, "{bill:?}");
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&bill["bomFormat"], &bill["specVersion"]),
            (&"CycloneDX".into(), &"1.5".into())
        );
        assert_eq!(bill["metadata"]["component"]["name"], shipped.package);
        let name = |component: &Value| {
            let text = |key: &str| component[key].as_str().unwrap().to_owned();
            (text("name"), text("version"))
        };
        let components = bill["components"].as_array().unwrap();
        let mut named: BTreeSet<_> = components.iter().map(name).collect();
        named.insert(name(&bill["metadata"]["component"]));
        let linked = linked(shipped);
        assert!(linked.len() > 100, "{}: {}", shipped.name, linked.len());
        let missing: Vec<_> = linked.difference(&named).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", shipped.name);
        println!(
            "{}: {} crates are linked, {} are named",
            shipped.name,
            linked.len(),
            named.len()
        );
    }
}
