//! How long it takes to decide about one who is known to the rules, and to read the largest set of rules
//! and decide about ten thousand: `cargo bench -p impp-bench --bench rules`. For people to look at; what
//! must hold is counted by `.ci/bench`.

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use impp_bench::compiled::Compiled;
use impp_bench::parts::{Part, Parts};

fn rules(criterion: &mut Criterion) {
    let (parts, compiled) = (Parts::new().unwrap(), Compiled::new().unwrap());
    let decide = |part| std::hint::black_box(&parts).counted(part).unwrap();
    criterion.bench_function("decide", |bencher| bencher.iter(|| decide(Part::Decide)));
    criterion.bench_function("compile-rules", |bencher| {
        bencher.iter(|| std::hint::black_box(&compiled).counted().unwrap());
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20);
    targets = rules
}
criterion_main!(all);
