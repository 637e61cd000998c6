//! How long each operation takes, with few and with many watchers: `cargo bench -p impp-bench`. For
//! people to look at; what must hold is counted by `.ci/bench`, as time differs from run to run.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use impp_bench::{Operation, World};

fn operations(criterion: &mut Criterion) {
    for operation in Operation::ALL {
        let mut group = criterion.benchmark_group(operation.name());
        for watchers in [100, 16_000] {
            let mut world = World::new(watchers).unwrap();
            group.bench_function(BenchmarkId::from_parameter(watchers), |bencher| {
                bencher.iter_custom(|times| {
                    let once = |_| {
                        let step = world.prepare(operation).unwrap();
                        let begun = Instant::now();
                        std::hint::black_box(world.counted(step));
                        let taken = begun.elapsed();
                        world.settle(operation).unwrap();
                        taken
                    };
                    (0..times).map(once).sum::<Duration>()
                });
            });
        }
    }
}

criterion_group! {
    name = watchers;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = operations
}
criterion_main!(watchers);
