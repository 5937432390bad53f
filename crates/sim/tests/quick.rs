#[test]
fn one() {
    let var = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    let begun = std::time::Instant::now();
    if var("SEEDS") > 1 {
        let c = skerry_sim::campaign(var("SEEDS"), var("STEPS"), 2);
        for f in c.failures.iter().take(12) { let t: String = f.to_string().chars().take(700).collect(); println!("{t}"); }
        println!("{} passed, {} failed, records {}, zeros {:?} {:?}", c.passed, c.failures.len(), c.records, c.tally.zeros(), begun.elapsed());
        for g in skerry_sim::Group::ALL { for (n, k) in c.tally.of(g) { println!("{} {n} {k}", g.name()); } }
        assert!(c.failures.is_empty());
        return;
    }
    match skerry_sim::run(var("SEED"), var("STEPS")) {
        Ok(r) => println!("{:?} {:?} {:?}", r.records, r.tally.zeros(), begun.elapsed()),
        Err(f) => panic!("{f}"),
    }
}
