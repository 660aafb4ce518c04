//! The guide has a page for each problem, in the order in which most people need them. `cargo test` compiles and runs every snippet; the
//! snippets of [recipes] with other crates are the programs and tests of `examples/recipes`.
//!
//! **Begin here**
//!
//! | you want to | page |
//! | --- | --- |
//! | write a first program | [Ten minutes to a first stage](start) |
//! | find a whole program by the words that people search for | [Cookbook](cookbook) |
//! | replace `StreamExt::buffered` | [Coming from `buffered`](from_buffered) |
//! | move a Flink job | [Coming from Flink](from_flink) |
//!
//! **Set up a stage**
//!
//! | you want to | page |
//! | --- | --- |
//! | choose the order in which outcomes leave | [Ordered, unordered, by key](order) |
//! | choose the number of records in flight | [Capacity and backpressure](capacity) |
//! | handle a service that is slow or fails | [Timeouts and retries](retries) |
//! | keep a service's rules: a rate, a pause, one request a customer | [Rates and pauses](rates) |
//! | follow what a service can take | [Adaptive limits](limits) |
//! | make one request for several records | [Batches](batches) |
//! | cache, hedge, share a limit, call HTTP or SQL, block, compute, prefer urgent records | [Recipes, with other crates](recipes) |
//!
//! **Survive a crash, and grow**
//!
//! | you want to | page |
//! | --- | --- |
//! | survive a crash, with each outcome *exactly once* | [Checkpoints](checkpoints) |
//! | keep checkpoints in another place | [Writing a store](store) |
//! | use all cores | [A function in several instances](parallel) |
//! | use many machines, or live on when one fails | [One process, all cores, many machines](machines) |
//!
//! **Run elsewhere**
//!
//! | you want to | page |
//! | --- | --- |
//! | run without `std` or an allocator | [no_std], and [on a bare machine](bare_metal) |
//! | run on another executor | [Writing a runtime](runtime) |
//! | use the operator in an engine of your own | [Embedding the core](engine) |
//!
//! **Look something up**
//!
//! | you want to | page |
//! | --- | --- |
//! | look up an exact guarantee | [The contract](contract) |
//! | know whether it is fast enough for your job | `docs/performance.md` in the repository |

// A page names its picture by a label. Rustdoc copies no files, so the label is defined here as the picture itself; in a page that is
// read in the repository it is the path of the file. The first definition of a label is the one that counts.
#[doc = include_str!("../docs/pictures/rustdoc/window.md")]
#[doc = include_str!("../docs/guide/start.md")]
pub mod start {}

#[doc = include_str!("../docs/guide/cookbook.md")]
pub mod cookbook {}

#[doc = include_str!("../docs/guide/from_buffered.md")]
pub mod from_buffered {}

#[doc = include_str!("../docs/guide/from_flink.md")]
pub mod from_flink {}

#[doc = include_str!("../docs/pictures/rustdoc/orders.md")]
#[doc = include_str!("../docs/guide/order.md")]
pub mod order {}

#[doc = include_str!("../docs/pictures/rustdoc/throughput.md")]
#[doc = include_str!("../docs/pictures/rustdoc/window.md")]
#[doc = include_str!("../docs/guide/capacity.md")]
pub mod capacity {}

#[doc = include_str!("../docs/guide/retries.md")]
pub mod retries {}

#[doc = include_str!("../docs/guide/rates.md")]
pub mod rates {}

#[doc = include_str!("../docs/guide/limits.md")]
pub mod limits {}

#[doc = include_str!("../docs/guide/batches.md")]
pub mod batches {}

#[doc = include_str!("../docs/guide/recipes.md")]
pub mod recipes {}

#[doc = include_str!("../docs/pictures/rustdoc/commit.md")]
#[doc = include_str!("../docs/checkpoints.md")]
pub mod checkpoints {}

#[doc = include_str!("../docs/store.md")]
pub mod store {}

#[doc = include_str!("../docs/guide/parallel.md")]
pub mod parallel {}

#[doc = include_str!("../docs/guide/machines.md")]
pub mod machines {}

#[doc = include_str!("../docs/guide/no_std.md")]
pub mod no_std {}

#[doc = include_str!("../docs/bare-metal.md")]
pub mod bare_metal {}

#[doc = include_str!("../docs/runtime.md")]
pub mod runtime {}

#[doc = include_str!("../docs/guide/engine.md")]
pub mod engine {}

#[doc = include_str!("../docs/contract.md")]
pub mod contract {}
