//! `rls-fuzz`: differential fuzz of pulls under row-level security. See the library's `fuzz` module.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use rand::rngs::StdRng;
use rand::SeedableRng;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::fuzz::chain;
use snapsync_e2e::fuzz::kind::OpKind;
use snapsync_e2e::fuzz::ops::Generator;
use snapsync_e2e::fuzz::plant::Plant;
use snapsync_e2e::fuzz::play::{play, prepare, Failure, Stats};
use snapsync_e2e::fuzz::schema::{World, MEMBERS};
use snapsync_e2e::fuzz::shrink::shrink;
use snapsync_e2e::fuzz::{Abilities, Case, Level};
use snapsync_e2e::verdict::Verdict;

/// Random schemas, policies and operations; every pull must equal the role's own SELECT and leak no id.
#[derive(Parser)]
struct Arguments {
    /// operations and pulls, over as many schemas as it takes
    #[arg(long, default_value_t = 20_000)]
    steps: u64,
    #[arg(long)]
    seed: Option<u64>,
    /// how much of the policy grammar
    #[arg(long, value_enum, default_value = "all")]
    level: Level,
    /// steps per schema
    #[arg(long, default_value_t = 250)]
    world: usize,
    /// policies that refer to the whole row as well
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    whole_row: bool,
    /// random session settings, columns and policies that they matter to, operators and functions of the tables' owner, and decoys of
    /// somebody else's
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    hostile: bool,
    /// the share of schemas in which what is seen of the memberships is decided by another table
    #[arg(long, default_value_t = 0.3)]
    nested: f64,
    /// the share of schemas in which policies ask for the caller's own memberships wherever they ask for any
    #[arg(long, default_value_t = 0.3)]
    own_members: f64,
    /// kinds of operations to leave out
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<OpKind>,
    /// plays that shrinking a failure may take
    #[arg(long, default_value_t = 400)]
    shrink: u32,
    /// failures after which to stop
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// damages the log in this way, and succeeds when that is noticed
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// plays a failure's file again instead
    #[arg(long)]
    replay: Option<std::path::PathBuf>,
    /// writes the shrunk failure to this file
    #[arg(long)]
    save: Option<std::path::PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    // Nested policies on tables without statistics look expensive: compiling them takes a second each time.
    let cluster = Cluster::start(&[("jit", "off")])?;
    let mut abilities = prepare(&cluster)?;
    abilities.whole_row &= arguments.whole_row;
    abilities.hostile &= arguments.hostile;
    abilities.nested = arguments.nested.clamp(0.0, 1.0);
    abilities.own_members = arguments.own_members.clamp(0.0, 1.0);
    let mut verdict = Verdict::default();
    if let Some(file) = &arguments.replay {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let case: Case = serde_json::from_str(&text)?;
        let (_, failure) = play(&cluster, &case, arguments.plant)?;
        if let Some(failure) = &failure {
            report(&case, failure);
        }
        verdict.check(failure.is_none(), "the recorded case");
        return Ok(verdict.close());
    }
    if arguments.plant.is_none() {
        chain::run(&cluster, seed, 600, &mut verdict)?;
    }
    println!("rls fuzz: seed {seed}, {} steps, level {:?}, {abilities:?}", arguments.steps, arguments.level);
    let started = Instant::now();
    let mut stats = Stats::default();
    let (mut worlds, mut failures) = (0u64, 0);
    while stats.steps < arguments.steps && failures < arguments.failures {
        // Each world has a seed of its own: a failure comes back without the worlds before it.
        let world_seed = seed.wrapping_add(worlds);
        let case = make(world_seed, &arguments, abilities);
        worlds += 1;
        let (played, failure) = play(&cluster, &case, arguments.plant)?;
        stats += played;
        if worlds % 100 == 0 {
            println!("{} steps, {} pulls, {:.0} s", stats.steps, stats.pulls, started.elapsed().as_secs_f64());
        }
        if let (Some(failure), Some(plant)) = (&failure, arguments.plant) {
            let text = format!(
                "{plant:?} is noticed after {} steps: {:?} {}",
                stats.steps,
                failure.kind,
                failure.text.chars().take(160).collect::<String>()
            );
            verdict.check(plant.is_found_by(failure.kind), text);
            return Ok(verdict.close());
        }
        if let Some(failure) = failure {
            failures += 1;
            println!("world seed {world_seed} failed at step {}: {:?}; shrinking", failure.at, failure.kind);
            let small = shrink(&cluster, &case, &failure, arguments.plant, arguments.shrink)?;
            report(&small.case, &small.failure);
            println!("(shrunk in {} plays; run again with --seed {world_seed} --steps 1)", small.plays);
            if let Some(file) = &arguments.save {
                std::fs::write(file, serde_json::to_string_pretty(&small.case)?)?;
            }
            verdict.check(false, format!("world seed {world_seed}: {:?}", failure.kind));
        }
        if cluster.crashed() {
            verdict.check(false, format!("the server crashed (world seed {world_seed}):\n{}", cluster.log_tail(20)));
            break;
        }
    }
    print!("{}", stats.causes.table());
    println!(
        "{} of {} collections have a scope by their policies, and {} of {} tables that are only read",
        stats.divided, stats.collections, stats.read_divided, stats.read
    );
    println!(
        "{worlds} schemas, {} steps ({} without effect), {} pulls ({} first syncs, {} with a reset, {} whose cursor was not kept, {} more denied), {} pushes, {} ids sent, \
         {} rows, {} deletions ({} of ids not held), {:.1} s",
        stats.steps,
        stats.ineffective_ops,
        stats.pulls,
        stats.first,
        stats.pulls_with_reset,
        stats.went_back,
        stats.denied,
        stats.pushes,
        stats.ids_sent,
        stats.applied.rows,
        stats.applied.deleted,
        stats.applied.deleted_unknown,
        started.elapsed().as_secs_f64()
    );
    if let Some(plant) = arguments.plant {
        verdict.check(false, format!("{plant:?} goes unnoticed"));
        return Ok(verdict.close());
    }
    verdict.check(failures == 0 && stats.pulls > 0, "every pull equals the role's SELECT and leaks no id");
    drop(cluster);
    Ok(verdict.close())
}

fn make(seed: u64, arguments: &Arguments, abilities: Abilities) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::random(&mut rng, arguments.level, abilities);
    if arguments.plant.is_some_and(Plant::is_of_access) {
        world.tables[MEMBERS].collection = false;
    }
    let policies = world.tables.iter().map(|t| t.policies.len()).max().unwrap_or(0);
    let mut generator = Generator {
        rng: &mut rng,
        world: &world,
        level: arguments.level,
        abilities,
        policies,
        without: &arguments.without,
        later: Vec::new(),
    };
    let ops = generator.ops(arguments.world);
    Case { world, ops }
}

fn report(case: &Case, failure: &Failure) {
    println!("{:?}: {}", failure.kind, failure.text);
    println!("-- the case as SQL:");
    for (settings, statement) in case.world.ddl() {
        println!("{}{statement};", settings.describe());
    }
    for op in &case.ops {
        println!("{}", op.describe(&case.world));
    }
}
