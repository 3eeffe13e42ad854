//! The address guard against its vector file: what is refused is refused by the client before anything is dialled.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::client::guard::{Guard, GuardError, Rule, Scope, Settings as GuardSettings};
use postrider::client::resolve::{Lookup, Resolve, ResolveError};
use postrider::client::{Client, Request, Settings, Wire};
use postrider::model::destination::Method;
use postrider::model::{DestinationNo, Reason, TenantId};

/// Answers from a table; a name with several answers gives them one after the other, the last for ever.
#[derive(Default)]
struct Table(Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>);

impl Resolve for Table {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        let mut table = self.0.lock().unwrap();
        let answer = match table.get_mut(name) {
            None => Err(ResolveError::Failed("no such name".to_owned())),
            Some(answers) if answers.len() > 1 => Ok(answers.pop_front().unwrap()),
            Some(answers) => Ok(answers[0].clone()),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Table {
    /// Reads the cell of the vector file.
    fn of(host: &str, cell: &str) -> Self {
        let mut answers: VecDeque<Vec<IpAddr>> = VecDeque::new();
        for answer in cell.trim_end_matches(" (TTL 0)").rsplit("-> ").next().unwrap().split(" then ") {
            let addresses = if answer == "(no records)" || answer == "-" { "" } else { answer };
            answers.push_back(
                addresses.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect(),
            );
        }
        Table(Mutex::new(HashMap::from([(host.to_owned(), answers)])))
    }
}

struct Row<'a> {
    id: u32,
    url: String,
    answer: &'a str,
    expected: &'a str,
    guard: GuardSettings,
    tenant: &'a str,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let id = cells[0].parse().unwrap();
        let mut row = Row {
            id,
            url: cells[2].replace("\\t", "\t").replace("\\r", "\r").replace("\\n", "\n"),
            answer: cells[3],
            expected: cells[4],
            guard: GuardSettings { allow_http: true, ..GuardSettings::default() },
            tenant: "default",
        };
        let cidr = |text: &str| Some(text.parse().unwrap());
        let host = Some("erp.corp".to_owned());
        // Rows that describe their settings in words.
        match id {
            148 => row.url = format!("https://hooks.example.com/{}", "a".repeat(8 << 10)),
            152 => {
                row.guard.own = vec!["93.184.216.34:8470".parse().unwrap()];
                row.url = "http://93.184.216.34:8470/".to_owned();
            }
            153 => {
                row.guard.own = vec!["0.0.0.0:8470".parse().unwrap()];
                row.guard.allow = vec!["127.0.0.0/8".to_owned()];
                row.url = "http://127.0.0.1:8470/".to_owned();
            }
            155 => {
                let rule = Rule { cidr: cidr("10.20.0.0/16"), ports: vec![(8080, 8080)], ..Rule::default() };
                row.guard.rules = vec![rule];
            }
            157 => row.guard.allow = vec!["10.20.0.0/16".to_owned()],
            159 => row.guard.allow = vec!["erp.corp".to_owned()],
            160 => row.guard.rules = vec![Rule { cidr: cidr("10.9.0.0/16"), host, ..Rule::default() }],
            161 => {
                let tenant = Some("tenant1".parse().unwrap());
                row.guard.rules = vec![Rule { tenant, cidr: cidr("10.20.0.0/16"), ..Rule::default() }];
                row.tenant = "tenant2";
            }
            _ => {}
        }
        if let Some((url, _)) = row.url.split_once(" with allow ").or_else(|| row.url.split_once(" (tenant ")) {
            row.url = url.to_owned();
        }
        rows.push(row);
    }
    rows
}

/// Rows that are proved elsewhere.
const ELSEWHERE: &[(u32, &str)] = &[
    (150, "a redirect is a reply, and none is followed: tests/hostile.rs"),
    (151, "a redirect is a reply, and none is followed: tests/hostile.rs"),
    (158, "settings that open every address make no guard: asserted below"),
];

fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    host.trim_end_matches('.').to_ascii_lowercase()
}

async fn send(client: &Client, row: &Row<'_>) -> postrider::client::Exchange {
    let request = Request {
        lane: DestinationNo(1),
        tenant: row.tenant.parse().unwrap(),
        url: row.url.as_str().into(),
        method: Method::Post,
        headers: Vec::new(),
        body: bytes::Bytes::from_static(b"{}"),
        timeout: Duration::from_secs(5),
        head_timeout: None,
        tls: Arc::default(),
        allow_private: false,
        in_flight_max: 1,
    };
    client.send(request).await
}

fn refusal(row: &Row<'_>) -> Option<postrider::client::guard::Code> {
    let guard = Guard::new(row.guard.clone()).unwrap();
    let tenant: TenantId = row.tenant.parse().unwrap();
    let scope = Scope { tenant: &tenant, allow_private: false };
    let target = match guard.admit(&row.url, scope) {
        Ok(target) => target,
        Err(refused) => return Some(refused.code),
    };
    let table = Table::of(&host_of(&row.url), row.answer);
    let answers = table.0.lock().unwrap().remove(&host_of(&row.url)).unwrap();
    let literal = row.url.contains('[') || host_of(&row.url).parse::<IpAddr>().is_ok();
    if literal {
        return None;
    }
    answers.iter().find_map(|addresses| guard.vet(&target, addresses, scope).err()).map(|refused| refused.code)
}

/// Invariant 7, S4.17, and the promise that tenants reach only public addresses: every row that needs no running daemon.
#[tokio::test]
async fn every_vector_gets_its_verdict() {
    let text = include_str!("vectors/ssrf.tsv");
    let mut driven = 0;
    for row in rows(text) {
        if ELSEWHERE.iter().any(|(id, _)| *id == row.id) {
            continue;
        }
        driven += 1;
        let settings = Settings { guard: row.guard.clone(), ..Settings::default() };
        let verdict = refusal(&row);
        match row.expected {
            "ALLOW" => assert_eq!(verdict, None, "row {} {:?}", row.id, row.url),
            "REJECT" => {
                assert!(verdict.is_some_and(|code| code.is_syntax()), "row {} {:?} {verdict:?}", row.id, row.url)
            }
            "BLOCK" => {
                assert!(verdict.is_some_and(|code| !code.is_syntax()), "row {} {:?} {verdict:?}", row.id, row.url)
            }
            "FAIL_RETRY" => {}
            other => panic!("unknown verdict {other}"),
        }
        if row.expected != "ALLOW" {
            // The client comes to the same verdict, and dials nothing. A rebinding name is asked for the second time.
            let table = Table::of(&host_of(&row.url), row.answer);
            if row.answer.contains(" then ") {
                table.resolve(&host_of(&row.url)).await.unwrap();
            }
            let client = Client::with_resolver(settings, Arc::new(table)).unwrap();
            let exchange = send(&client, &row).await;
            let reason = if row.expected == "FAIL_RETRY" { Reason::Dns } else { Reason::BlockedDestination };
            assert_eq!(exchange.failure.unwrap().reason, reason, "row {} {:?}", row.id, row.url);
            assert_eq!(exchange.address, None, "row {} was dialled", row.id);
        }
    }
    assert_eq!(driven + ELSEWHERE.len(), text.lines().count() - 1);
    assert!(driven > 100, "{driven}");

    let everything = GuardSettings { allow: vec!["0.0.0.0/0".to_owned()], ..GuardSettings::default() };
    assert!(matches!(Guard::new(everything), Err(GuardError::Everything(_))));
}
