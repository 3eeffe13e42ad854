//! `bench`: what this machine does with the daemon, and what it would do without it.
//!
//! A daemon of its own, in a process of its own, on a scratch store; a receiver and a producer in this process. All of it
//! on loopback, bounded in count and time, and gone afterwards. Beside each figure stands its floor, taken in the same run:
//! the same client and the same receiver with neither store nor scheduler; and what a bare client does. Figures of different machines cannot be compared,
//! their ratios to the floor can.

mod bare;
mod certificate;
mod floor;
mod payload;
mod process;
mod producer;
mod report;
mod sink;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::admin::Admin;
use super::demo::{interrupted, secrets_of};
use super::scratch::Scratch;
use super::signature::Proof;
use super::{Exit, Failure, Form, Trouble};
use crate::clock::{Clock, Stopwatch};
use crate::model::Secret;
use crate::model::destination::{Preset, Scheme, Signature, SignedWith};
use crate::model::{Destination, DestinationId, DestinationNo, TenantId};
use certificate::Certificate;
use floor::{Post, Posted};
use process::Process;
use producer::{BareSocket, Load};
use report::{Beside, Report, Unit};
use sink::{Round, Sink, Tally};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
postrider bench --quick\n  \
postrider bench --destinations 1000 --only delivery\n  \
postrider bench --preload 1000000 --preload-as waiting --json\n\n\
The store lies in TMPDIR: point it to the disk that counts. Every event carries a producer's id, every delivery a \
Standard Webhooks signature; the receiver verifies one in a hundred.")]
pub(super) struct Arguments {
    /// Destinations that share the load
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    destinations: u32,
    /// Destinations of each event in the measurement of fan-out
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=64))]
    fanout: u32,
    /// The size of an event's data
    #[arg(long, value_name = "BYTES", default_value_t = 1024,
          value_parser = clap::value_parser!(u64).range(payload::BYTES_MIN..=payload::BYTES_MAX))]
    payload: u64,
    /// Events that are put into the store before anything is measured
    #[arg(long, value_name = "ROWS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    preload: u64,
    /// What those events are
    #[arg(long, value_name = "STATE", default_value = "finished")]
    preload_as: Preload,
    /// The receiver speaks TLS, with a certificate that is made for this run
    #[arg(long)]
    tls: bool,
    /// Events, or deliveries, of each measurement at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: Option<u64>,
    /// A few seconds in all, for a first impression
    #[arg(long)]
    quick: bool,
    /// Only these measurements
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    only: Vec<Part>,
}

/// What preloaded events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preload {
    /// Delivered, each with its attempt
    Finished,
    /// Waiting for a destination that is paused; the daemon is then started again over them
    Waiting,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Events that go nowhere
    Intake,
    /// From acknowledgement to receipt
    Latency,
    /// From the socket to the receiver
    Delivery,
}

/// How much is measured: counts and times, whichever is reached first.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    events: u64,
    /// For the emission of one measurement; its deliveries end by themselves or are lost.
    time_max: Duration,
    /// For each rate of the open loop.
    paced: Duration,
}

/// The rates of the open loop, in events a second, with the names of their figures: from the acknowledgement on, and from
/// the moment when the event was to be emitted.
const RATES: [(u32, [[&str; 2]; 2]); 2] = [
    (50, [["latency_50_p50", "latency_50_p99"], ["whole_50_p50", "whole_50_p99"]]),
    (1000, [["latency_1000_p50", "latency_1000_p99"], ["whole_1000_p50", "whole_1000_p99"]]),
];
/// How often the daemon, the floor and the bare client take turns in one measurement of deliveries. A machine that its
/// neighbours slow down for a second slows one turn of one of them, and the median forgets it.
const TURNS: u64 = 9;
/// For filling the store. It is as long as the rows take; this ends a run whose daemon has stopped.
const PRELOAD_MAX: Duration = Duration::from_secs(3600);
/// How long the daemon may take to write down what it has delivered.
const SETTLE_MAX: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &Arguments, form: Form) -> Result<Exit, Failure> {
    let scratch = Scratch::make("bench")?;
    super::runtime()?.block_on(async {
        tokio::select! {
            measured = measure(arguments, form, scratch.path()) => measured,
            stopped = interrupted() => stopped.map(|()| Exit::Failed),
        }
    })
}

async fn measure(arguments: &Arguments, form: Form, folder: &Path) -> Result<Exit, Failure> {
    let bounds = arguments.bounds();
    let certificate = if arguments.tls { Some(Certificate::make(folder)?) } else { None };
    let sink = Sink::start(certificate.as_ref())?;
    let process = Process::start(folder, certificate.as_ref().map(|certificate| certificate.path.as_path()))?;
    let mut bench = Bench::new(arguments, form, folder, sink, process, certificate).await?;
    bench.time_sync()?;
    bench.report.memory("memory_idle", "resident memory, idle", bench.process.memory()?.resident);
    bench.preload().await?;
    if arguments.measures(Part::Intake) {
        bench.intake(bounds).await?;
    }
    if arguments.measures(Part::Latency) {
        for (rate, ids) in RATES {
            bench.latency(bounds, rate, ids).await?;
        }
    }
    if arguments.measures(Part::Delivery) {
        bench.delivery(bounds).await?;
    }
    let memory = bench.process.memory()?;
    bench.report.memory("memory_peak", "resident memory, peak", memory.peak);
    bench.report.memory("memory_after", "resident memory, after", memory.resident);
    bench.resume().await?;
    bench.time_sync()?;
    let Bench { report, total, syncs, .. } = bench;
    report.print(form, arguments, median(syncs.into_iter()), &total)?;
    let well = total.lost == 0 && total.unverified == 0 && total.strays == 0;
    Ok(if well { Exit::Done } else { Exit::Failed })
}

impl Arguments {
    fn bounds(&self) -> Bounds {
        let (events, time_max, paced) = match self.quick {
            true => (18_000, Duration::from_secs(3), Duration::from_secs(1)),
            false => (180_000, Duration::from_secs(20), Duration::from_secs(10)),
        };
        Bounds { events: self.events.unwrap_or(events), time_max, paced }
    }

    fn measures(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// What takes part.
struct Bench<'a> {
    arguments: &'a Arguments,
    form: Form,
    folder: &'a Path,
    // Ends before the receiver, which it would otherwise find gone.
    process: Process,
    sink: Sink,
    certificate: Option<Certificate>,
    proofs: Arc<Vec<Proof>>,
    /// What the floor delivers to: the daemon's destinations, with their secrets.
    destinations: Arc<Vec<Destination>>,
    waiting: Option<Waiting>,
    rounds: u16,
    /// How long a sync took between the measurements, in milliseconds.
    syncs: Vec<f64>,
    report: Report,
    total: Tally,
}

impl<'a> Bench<'a> {
    async fn new(
        arguments: &'a Arguments,
        form: Form,
        folder: &'a Path,
        sink: Sink,
        process: Process,
        certificate: Option<Certificate>,
    ) -> Result<Self, Failure> {
        let admin = Admin::over(process.admin_socket());
        let (mut ids, mut secrets) = (Vec::new(), Vec::new());
        for place in 0..arguments.destinations.max(arguments.fanout) {
            let wanted = json!({
                "name": format!("bench-{place}"),
                "http_endpoint_url": sink.url(place),
                "confirmed": true,
                "signature": { "preset": Preset::Standard.as_str() },
            });
            let made = admin.ask(Method::POST, "/v1/destinations/webhook", Some(&wanted)).await?;
            ids.push(made["id"].clone());
            secrets.extend(secrets_of(&made));
        }
        for (fanout, kind) in [(1, "one"), (arguments.fanout, "many")] {
            for (group, ids) in ids.chunks_exact(fanout as usize).enumerate() {
                subscribe(&admin, &format!("bench.{kind}.{group}"), ids).await?;
            }
        }
        if secrets.len() != ids.len() {
            return Err(unexpected("a destination without a secret"));
        }
        let shared = secrets.iter().take(arguments.destinations as usize);
        let destinations = (0..).zip(shared).map(|(place, secret)| floor_destination(place, sink.url(place), secret));
        let destinations = Arc::new(destinations.collect());
        let proofs = secrets.into_iter().map(|secret| Proof::of([(Preset::Standard, secret)])).collect();
        Ok(Bench {
            arguments,
            form,
            folder,
            process,
            sink,
            proofs: Arc::new(proofs),
            certificate,
            destinations,
            waiting: None,
            rounds: 0,
            syncs: Vec::new(),
            report: Report::default(),
            total: Tally::default(),
        })
    }

    /// Puts the rows into the store that the arguments ask for.
    async fn preload(&mut self) -> Result<(), Failure> {
        let rows = self.arguments.preload;
        if rows == 0 {
            return Ok(());
        }
        let bounds = Bounds { events: rows, time_max: PRELOAD_MAX, paced: Duration::ZERO };
        match self.arguments.preload_as {
            Preload::Finished => {
                self.say(format_args!("preload: {rows} events are delivered"))?;
                self.deliver(bounds, "one", 1).await?;
            }
            Preload::Waiting => {
                self.say(format_args!("preload: {rows} events wait for a paused destination"))?;
                let admin = Admin::over(self.process.admin_socket());
                let url = self.sink.url("paused/0");
                let mut wanted = json!({ "name": "bench-paused", "http_endpoint_url": url, "confirmed": true });
                wanted["signature"] = json!({ "preset": Preset::Standard.as_str() });
                let made = admin.ask(Method::POST, "/v1/destinations/webhook", Some(&wanted)).await?;
                let id = made["id"].as_str().unwrap_or_default();
                let proof = Proof::of(secrets_of(&made).into_iter().map(|secret| (Preset::Standard, secret)));
                admin.ask(Method::POST, &format!("/v1/destinations/webhook/{id}/pause"), None).await?;
                subscribe(&admin, "bench.waiting", &[json!(id)]).await?;
                let round = self.next_round();
                self.waiting = Some(Waiting { destination: id.to_owned(), round, rows, proof });
                let load = self.load(bounds, vec!["bench.waiting".to_owned()], round);
                load.closed_loop(4, 64).await.map_err(|error| self.not_taken(&error))?;
                let memory = self.process.memory()?.resident;
                self.report.memory("memory_waiting", "resident memory, with what waits", memory);
                self.process.restart()?;
                let ready = self.process.ready_in.as_secs_f64() * 1000.0;
                self.report.note(
                    "ready_after_restart",
                    "ready again after a restart",
                    ready,
                    Unit::Millis,
                    Beside::default(),
                );
                let memory = self.process.memory()?.resident;
                self.report.memory("memory_restarted", "resident memory, restarted", memory);
            }
        }
        Ok(())
    }

    /// Lets go what has waited: how long the first delivery takes.
    async fn resume(&mut self) -> Result<(), Failure> {
        let Some(Waiting { destination, round, rows, proof }) = self.waiting.take() else { return Ok(()) };
        self.say(format_args!("resume: {rows} events are let go"))?;
        let round = Round::new(round, rows, 1, 1, Arc::new(vec![proof]));
        self.sink.begin(&round);
        let admin = Admin::over(self.process.admin_socket());
        let begun = round.nanos_at(tokio::time::Instant::now());
        admin.ask(Method::POST, &format!("/v1/destinations/webhook/{destination}/resume"), None).await?;
        // Of all that goes out now only the first one is waited for.
        let tally = round.finish(1).await;
        self.count(&Tally { received: tally.received.min(1), ..tally });
        let first = round.earliest().map_or(f64::NAN, |at| at.saturating_sub(begun) as f64 / 1e6);
        self.report.note("first_after_resume", "first delivery after a resume", first, Unit::Millis, Beside::default());
        Ok(())
    }

    /// Events that no subscription matches: the socket and the store alone.
    async fn intake(&mut self, bounds: Bounds) -> Result<(), Failure> {
        let bare = self.folder.join("bare.sock");
        let _bare_socket = BareSocket::start(&bare)?;
        for (id, name, connections, in_flight) in [
            ("intake_4x64", "events acknowledged, 4 connections with 64 in flight", 4, 64),
            ("intake_64x1", "events acknowledged, 64 connections one at a time", 64, 1),
        ] {
            self.say(format_args!("{name}"))?;
            let kinds = || vec!["bench.nowhere".to_owned()];
            let (round, floor_round) = (self.next_round(), self.next_round());
            let load = self.load(bounds, kinds(), round);
            let measured = load.closed_loop(connections, in_flight).await;
            let (events, took) = measured.map_err(|error| self.not_taken(&error))?;
            let load = Load { socket: bare.clone(), ..self.load(bounds, kinds(), floor_round) };
            let (floor_events, floor_took) = load.closed_loop(connections, in_flight).await?;
            self.report.note(
                id,
                name,
                rate(events, took),
                Unit::PerSecond,
                Beside::floor(rate(floor_events, floor_took)),
            );
        }
        Ok(())
    }

    /// How long an event takes from its acknowledgement to the receiver, at a rate.
    async fn latency(&mut self, bounds: Bounds, rate: u32, ids: [[&'static str; 2]; 2]) -> Result<(), Failure> {
        self.say(format_args!("latency at {rate} events a second"))?;
        let events = (bounds.paced.as_secs() * u64::from(rate)).min(bounds.events);
        let groups = u64::from(self.arguments.destinations);
        let round = self.begin(events, 1, groups);
        let load = self.load(Bounds { events, ..bounds }, self.kinds("one", groups), round.number());
        let paced = load.open_loop(rate, &round).await.map_err(|error| self.not_taken(&error))?;
        let tally = round.finish(events).await;
        self.count(&tally);
        let connections = self.sink.connections_peak();
        let ours = [&paced.acknowledged, &paced.due].map(|begun| Latencies::between(begun, &round));

        let round = self.begin(events, 1, groups);
        let post = self.post(&round, Bounds { events, ..bounds }, connections);
        let posted = self.floor(post, Some(rate)).await?;
        let tally = round.finish(posted.deliveries).await;
        self.count(&tally);
        let floor = Latencies::between(&posted.due, &round);
        for ((ids, ours), from) in ids.into_iter().zip(ours).zip(["acknowledgement", "emission"]) {
            for (id, percent) in ids.into_iter().zip([50, 99]) {
                let name = format!("{from} to receipt, p{percent} at {rate}/s");
                self.report.note(
                    id,
                    &name,
                    ours.percentile(percent),
                    Unit::Millis,
                    Beside::floor(floor.percentile(percent)),
                );
            }
        }
        Ok(())
    }

    /// Deliveries as fast as they go, with one destination for each event and with many.
    async fn delivery(&mut self, bounds: Bounds) -> Result<(), Failure> {
        let fanout = u64::from(self.arguments.fanout);
        let warm_up = Bounds { events: (bounds.events / 10).clamp(1, 1000), ..bounds };
        self.say(format_args!("deliveries, one destination for each event"))?;
        self.deliver(warm_up, "one", 1).await?;
        self.take_turns(["deliveries_1", "cpu_1"], "deliveries, one for each event", bounds, "one", 1).await?;

        self.say(format_args!("deliveries, {fanout} destinations for each event"))?;
        let name = format!("deliveries, {fanout} for each event");
        self.take_turns(["deliveries_fanout", "cpu_fanout"], &name, bounds, "many", fanout).await
    }

    /// Measures the daemon, its floor and a bare client one after the other, several times over, and notes all three.
    async fn take_turns(
        &mut self,
        [id, cpu_id]: [&'static str; 2],
        name: &str,
        bounds: Bounds,
        kind: &str,
        fanout: u64,
    ) -> Result<(), Failure> {
        let groups = u64::from(self.arguments.destinations);
        let events = (bounds.events / TURNS / fanout).max(1);
        let emitted = Bounds { events, ..bounds };
        let posts = Bounds { events: events * fanout, ..bounds };
        let (mut ours, mut floor, mut bare) = (Turns::default(), Turns::default(), Turns::default());
        for _ in 0..TURNS {
            self.time_sync()?;
            let (turn, connections) = self.deliver(emitted, kind, fanout).await?;
            ours.0.push(turn);

            let round = self.begin(posts.events, 1, groups);
            let posted = self.floor(self.post(&round, posts, connections), None).await?;
            self.count(&round.finish(posted.deliveries).await);
            floor.0.push(Turn::of(&posted));

            let round = self.begin(posts.events, 1, groups);
            let posted = self.bare(self.post(&round, posts, connections)).await?;
            self.count(&round.finish(posted.deliveries).await);
            bare.0.push(Turn::of(&posted));
        }
        let beside = Beside { floor: Some(floor.rate()), bare: Some(bare.rate()), ratio: Some(ours.of_floor(&floor)) };
        self.report.note(id, name, ours.rate(), Unit::PerSecond, beside);
        let (value, beside) =
            (ours.cpu_micros(), Beside { floor: Some(floor.cpu_micros()), bare: Some(bare.cpu_micros()), ratio: None });
        self.report.note(cpu_id, "processor time for each, the daemon alone", value, Unit::Micros, beside);
        Ok(())
    }

    /// Emits in a closed loop and waits for the deliveries, and for their record.
    ///
    /// With how many connections the receiver had at most.
    async fn deliver(&mut self, bounds: Bounds, kind: &str, fanout: u64) -> Result<(Turn, usize), Failure> {
        let destinations = u64::from(self.arguments.destinations.max(self.arguments.fanout));
        let groups = match kind {
            "one" => u64::from(self.arguments.destinations),
            _ => destinations / fanout,
        };
        let round = self.begin(bounds.events, fanout, groups);
        let before = self.process.cpu()?;
        let load = self.load(bounds, self.kinds(kind, groups), round.number());
        let (events, _) = load.closed_loop(4, 64).await.map_err(|error| self.not_taken(&error))?;
        let tally = round.finish(events).await;
        self.settle().await?;
        let cpu = self.process.cpu()?.saturating_sub(before);
        self.count(&tally);
        Ok((Turn { deliveries: tally.received, took: tally.took, cpu }, self.sink.connections_peak()))
    }

    /// The same deliveries for a client without a daemon.
    fn post(&self, round: &Arc<Round>, bounds: Bounds, in_flight: usize) -> Post {
        Post {
            destinations: Arc::clone(&self.destinations),
            round: Arc::clone(round),
            payload_bytes: self.payload_bytes(),
            in_flight,
            deliveries: bounds.events,
            time_max: bounds.time_max,
        }
    }

    // Each on a thread of its own, as the daemon has: this one is the producer's.

    async fn floor(&self, post: Post, rate: Option<u32>) -> Result<Posted, Failure> {
        let ca = self.certificate.as_ref().map(|certificate| certificate.path.clone());
        Ok(tokio::task::spawn_blocking(move || floor::run(post, ca, rate)).await.map_err(io::Error::other)??)
    }

    async fn bare(&self, post: Post) -> Result<Posted, Failure> {
        let receiver = self.sink.address();
        let tls = self.certificate.as_ref().map(|certificate| Arc::clone(&certificate.client));
        Ok(tokio::task::spawn_blocking(move || bare::run(post, receiver, tls)).await.map_err(io::Error::other)??)
    }

    /// Waits until nothing is under way in the daemon any more but what waits for the paused destination.
    async fn settle(&self) -> Result<(), Failure> {
        let admin = Admin::over(self.process.admin_socket());
        let deadline = tokio::time::Instant::now() + SETTLE_MAX;
        while tokio::time::Instant::now() < deadline {
            // Seldom, since the answer costs the daemon time that would count as the deliveries'.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let status = admin.ask(Method::GET, "/v1/status", None).await?;
            if status["pending"] == json!(0) {
                break;
            }
        }
        Ok(())
    }

    /// Nothing else is under way: the disk may be another one in a minute, where it is shared.
    fn time_sync(&mut self) -> Result<(), Failure> {
        self.syncs.push(sync_time(self.folder)?);
        Ok(())
    }

    fn next_round(&mut self) -> u16 {
        self.rounds += 1;
        self.rounds
    }

    fn begin(&mut self, events: u64, fanout: u64, groups: u64) -> Arc<Round> {
        let round = Round::new(self.next_round(), events, fanout as usize, groups, Arc::clone(&self.proofs));
        self.sink.begin(&round);
        round
    }

    fn load(&self, bounds: Bounds, kinds: Vec<String>, round: u16) -> Load {
        let Bounds { events, time_max, .. } = bounds;
        Load {
            socket: self.process.ingest_socket(),
            kinds,
            round,
            payload_bytes: self.payload_bytes(),
            events,
            time_max,
        }
    }

    fn kinds(&self, kind: &str, groups: u64) -> Vec<String> {
        (0..groups).map(|group| format!("bench.{kind}.{group}")).collect()
    }

    fn payload_bytes(&self) -> usize {
        usize::try_from(self.arguments.payload).expect("the parser bounds it by a million")
    }

    fn count(&mut self, tally: &Tally) {
        let total = &mut self.total;
        total.received += tally.received;
        total.lost += tally.lost;
        total.repeats += tally.repeats;
        total.strays += tally.strays;
        total.verified += tally.verified;
        total.unverified += tally.unverified;
    }

    fn not_taken(&self, error: &io::Error) -> Failure {
        let place = self.process.ingest_socket().display().to_string();
        let help = "what the daemon says on standard error stands above";
        Failure::new(Exit::Failed, Trouble::new("the daemon did not take an event", place, error.to_string(), help))
    }

    /// A line of talk for people, since a run takes a while.
    fn say(&self, line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        match self.form {
            Form::Text => Ok(writeln!(anstream::stderr().lock(), "{line} ...")?),
            Form::Json => Ok(()),
        }
    }
}

/// What waits for the paused destination.
struct Waiting {
    destination: String,
    /// The round that its events are of.
    round: u16,
    rows: u64,
    proof: Proof,
}

/// A destination of the daemon, for the floor.
fn floor_destination(place: u32, url: String, secret: &Secret) -> Destination {
    let (no, id) = (DestinationNo(place + 1), DestinationId(uuid::Uuid::nil()));
    let now = Clock::system().now();
    let scheme = Scheme::Preset(Preset::Standard);
    let signatures = vec![SignedWith::Own(Signature { scheme, secret: secret.clone(), previous: None })];
    let name = format!("bench-{place}");
    Destination { signatures, ..Destination::new(no, id, TenantId::default_tenant(), name, url, now) }
}

/// What came of one turn of a measurement of deliveries.
struct Turn {
    deliveries: u64,
    /// From the first event emitted to the last delivery received.
    took: Duration,
    /// Of the daemon, until the last outcome was on disk; or of the client beside it.
    cpu: Duration,
}

impl Turn {
    fn of(posted: &Posted) -> Turn {
        Turn { deliveries: posted.measured, took: posted.took, cpu: posted.cpu }
    }

    fn rate(&self) -> f64 {
        rate(self.deliveries, self.took)
    }
}

/// The turns of one of them.
#[derive(Default)]
struct Turns(Vec<Turn>);

impl Turns {
    /// Deliveries a second, of the turn in the middle.
    fn rate(&self) -> f64 {
        median(self.0.iter().map(Turn::rate))
    }

    /// The rate as a part of the floor's next turn, of the pair in the middle.
    fn of_floor(&self, floor: &Turns) -> f64 {
        median(self.0.iter().zip(&floor.0).map(|(ours, floor)| ours.rate() / floor.rate()))
    }

    /// Processor time for each delivery of all turns together: the kernel counts it in steps too coarse for one.
    fn cpu_micros(&self) -> f64 {
        let deliveries: u64 = self.0.iter().map(|turn| turn.deliveries).sum();
        self.0.iter().map(|turn| turn.cpu.as_secs_f64()).sum::<f64>() * 1e6 / deliveries.max(1) as f64
    }
}

/// The value in the middle; the upper one of two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Times from a beginning of each event to its receipt, in nanoseconds, sorted.
struct Latencies(Vec<u64>);

impl Latencies {
    fn between(begun: &[u64], round: &Round) -> Latencies {
        let receipts = (0..).zip(begun).filter_map(|(event, begun)| {
            // The receiver may have it before the producer has read its acknowledgement.
            Some(round.first_receipt(event)?.saturating_sub(*begun))
        });
        let mut nanos: Vec<u64> = receipts.collect();
        nanos.sort_unstable();
        Latencies(nanos)
    }

    /// In milliseconds: the least that so many percent do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
    }
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

async fn subscribe(admin: &Admin, kind: &str, destinations: &[Value]) -> Result<(), Failure> {
    let wanted = json!({ "destinations": destinations });
    admin.ask(Method::POST, &format!("/v1/subscriptions/{kind}"), Some(&wanted)).await.map(drop)
}

fn unexpected(cause: &str) -> Failure {
    let help = "this is a fault of the benchmark; please report it";
    Failure::new(Exit::Failed, Trouble::new("the daemon answers otherwise than expected", "bench", cause, help))
}

/// How long a small write and its sync take in this folder at this moment, in milliseconds: the one in the middle of some.
fn sync_time(folder: &Path) -> Result<f64, Failure> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..21 {
        let watch = Stopwatch::start();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(watch.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(&path)?;
    Ok(median(times.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_the_turn_in_the_middle_and_its_processor_time_that_of_all() {
        let turn =
            |deliveries, millis| Turn { deliveries, took: Duration::from_secs(1), cpu: Duration::from_millis(millis) };
        let turns = |rates: [u64; 3]| Turns(rates.map(|rate| turn(rate, 10)).into());
        let (ours, floor) = (turns([100, 900, 300]), turns([400, 1000, 400]));
        assert_eq!(ours.rate(), 300.0);
        assert_eq!(ours.of_floor(&floor), 0.75, "of 0.25, 0.9 and 0.75");
        assert_eq!(turns([100, 200, 300]).cpu_micros(), 50.0);
        assert!(Turns::default().rate().is_nan());
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let latencies = Latencies((1..=200).map(|n| n * 1_000_000).collect());
        assert_eq!([50, 99, 100].map(|percent| latencies.percentile(percent)), [100.0, 198.0, 200.0]);
        assert_eq!(Latencies(vec![7_000_000]).percentile(99), 7.0);
        assert!(Latencies(Vec::new()).percentile(50).is_nan());
    }
}
