//! The server and the client over a real loopback connection, with a fake node behind.

use super::{
    client::Client,
    endpoint::Endpoint,
    error::{ControlError, Kind},
    fake::FakeNode,
    server::Server,
    submission::PART_BYTES_MAX,
};
use crate::wire::control::{submit_request::Part, *};
use std::sync::Arc;

async fn served() -> (tempfile::TempDir, Arc<FakeNode>, Client) {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, _task) = FakeNode::serve(dir.path()).await;
    let client = Client::connect(dir.path()).await.expect("it serves");
    (dir, node, client)
}

fn request(part: Part) -> SubmitRequest {
    SubmitRequest { part: Some(part) }
}

fn unit(name: &str, data: &'static [u8], more: bool) -> SubmitRequest {
    request(Part::Unit(UnitPart { name: name.to_owned(), data: data.into(), more }))
}

fn spec() -> SubmitRequest {
    request(Part::Spec(JobSpec { name: "primes".to_owned(), ..JobSpec::default() }))
}

fn module() -> SubmitRequest {
    request(Part::Module(b"\0asm\x01\0\0\0"[..].into()))
}

fn commit() -> SubmitRequest {
    request(Part::Commit(SubmitCommit {}))
}

#[tokio::test]
async fn a_call_with_the_published_token_is_answered() {
    let (_dir, node, mut client) = served().await;
    node.status.lock().expect("lock").nickname = "quiet-otter".to_owned();
    assert_eq!(client.status().await.map(|status| status.nickname), Ok("quiet-otter".to_owned()));
}

#[tokio::test]
async fn a_wrong_token_is_denied() {
    let (dir, _node, _client) = served().await;
    let mut endpoint = Endpoint::read(dir.path()).expect("published");
    endpoint.token = "0".repeat(64);
    let other = tempfile::tempdir().expect("a directory");
    let _published = endpoint.publish(other.path()).expect("written");
    let mut client = Client::connect(other.path()).await.expect("the port is right");
    let error = client.status().await.expect_err("wrong token");
    assert_eq!((error.kind, error.reason.as_ref()), (Kind::Denied, "WRONG_TOKEN"));
}

#[tokio::test]
async fn a_missing_or_stale_file_means_that_no_node_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = Client::connect(dir.path()).await.expect_err("no file");
    assert_eq!((error.kind, error.reason.as_ref()), (Kind::Unreachable, "NO_NODE"));
    let server = Server::bind(dir.path()).await.expect("a port");
    let endpoint = server.endpoint().clone();
    drop(server);
    assert!(!dir.path().join("control.json").exists(), "removed at shutdown");
    let _stale = endpoint.publish(dir.path()).expect("written");
    let error = Client::connect(dir.path()).await.expect_err("nobody listens");
    assert_eq!((error.kind, error.reason.as_ref()), (Kind::Unreachable, "NO_NODE"));
    assert!(error.cause.contains("stale"), "{}", error.cause);
}

#[cfg(unix)]
#[tokio::test]
async fn the_published_file_is_private_and_the_token_is_not_debugged() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::bind(dir.path()).await.expect("a port");
    let mode = std::fs::metadata(dir.path().join("control.json")).expect("published").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{:?}", server.endpoint()).contains(&server.endpoint().token));
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1, "no draft is left");
}

#[tokio::test]
async fn an_error_keeps_kind_reason_cause_and_hints() {
    let (_dir, _node, mut client) = served().await;
    assert_eq!(client.job("dead").await, Err(ControlError::no_such_job("dead")));
    for kind in [
        Kind::Internal,
        Kind::Usage,
        Kind::Unreachable,
        Kind::NotFound,
        Kind::Denied,
        Kind::Failed,
        Kind::Cancelled,
        Kind::Unverified,
        Kind::Conflict,
        Kind::Exhausted,
        Kind::TimeOut,
    ] {
        let error = ControlError::new(kind, "SOME_REASON", "what").cause("why").hint("manyhands up");
        assert_eq!(ControlError::from(tonic::Status::from(error.clone())), error);
    }
}

#[tokio::test]
async fn a_submission_arrives_whole_and_twice_is_once() {
    let (_dir, node, mut client) = served().await;
    let parts =
        || tokio_stream::iter([spec(), module(), unit("a", b"one ", true), unit("a", b"two", false), unit("b", b"", false), commit()]);
    let first = client.submit(parts()).await.expect("accepted");
    let second = client.submit(parts()).await.expect("accepted");
    assert!(!first.already_existed && second.already_existed);
    let jobs = node.jobs.lock().expect("lock");
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].units, [("a".to_owned(), b"one two".to_vec()), ("b".to_owned(), Vec::new())]);
}

#[tokio::test]
async fn a_submission_that_breaks_a_rule_leaves_nothing() {
    let (_dir, node, mut client) = served().await;
    let range = |start, end, per_unit| request(Part::Spec(JobSpec { range: Some(Range { start, end, per_unit }), ..JobSpec::default() }));
    let large = request(Part::Module(vec![0; PART_BYTES_MAX + 1].into()));
    let cases: Vec<(Vec<SubmitRequest>, &str)> = vec![
        (vec![], "SUBMIT_ORDER"),
        (vec![module()], "SUBMIT_ORDER"),
        (vec![spec(), spec()], "SUBMIT_ORDER"),
        (vec![spec(), module()], "SUBMIT_INCOMPLETE"),
        (vec![spec(), module(), unit("a", b"x", true), commit()], "SUBMIT_ORDER"),
        (vec![spec(), module(), commit()], "NO_UNITS"),
        (vec![spec(), unit("a", b"x", false), module()], "SUBMIT_ORDER"),
        (vec![spec(), unit("a", b"x", false), commit()], "SUBMIT_ORDER"),
        (vec![spec(), large], "TOO_LARGE"),
        (vec![range(2, 1, 1)], "BAD_RANGE"),
        (vec![range(1, 1, 1)], "BAD_RANGE"),
        (vec![range(1, 2, 0)], "BAD_PER_UNIT"),
        (vec![range(0, u64::MAX, 1)], "TOO_MANY_UNITS"),
        (vec![range(0, 9, 1), module(), unit("a", b"x", false)], "SUBMIT_ORDER"),
        (vec![request(Part::Spec(JobSpec { policy: "lax".to_owned(), ..JobSpec::default() }))], "UNKNOWN_WORD"),
    ];
    for (parts, reason) in cases {
        let text = format!("{parts:?}");
        let error = client.submit(tokio_stream::iter(parts)).await.expect_err(&text);
        assert_eq!(error.reason, reason, "{text}");
    }
    assert!(node.jobs.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn streams_end_and_pages_are_bounded() {
    let (_dir, node, mut client) = served().await;
    node.add_job("abcde", |job| job.units = 4);
    node.add_job("f00d1", |job| job.units = 4);
    let mut changes = client.watch("@last").await.expect("there is one");
    let mut states = Vec::new();
    while let Some(job) = changes.next().await.expect("no error") {
        states.push((job.verified, job.state() == JobState::Done));
    }
    assert_eq!(states, [(0, false), (2, false), (4, true)]);
    let page = client.jobs(ListJobsRequest { page_size: 1, page_token: String::new() }).await.expect("a page");
    assert_eq!((page.jobs.len(), page.next_page_token.as_str()), (1, "1"));
}

#[tokio::test]
async fn health_and_reflection_need_no_token() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_node, _task) = FakeNode::serve(dir.path()).await;
    let port = Endpoint::read(dir.path()).expect("published").port;
    let channel = tonic::transport::Channel::builder(format!("http://127.0.0.1:{port}").parse().expect("a uri"));
    let channel = channel.connect().await.expect("it listens");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let service = "manyhands.control.v1.Control".to_owned();
    let reply = health.check(tonic_health::pb::HealthCheckRequest { service }).await.expect("answered").into_inner();
    assert_eq!(reply.status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::*, server_reflection_request::MessageRequest};
    let list = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    let reply = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::iter([list])).await;
    let answer = reply.expect("answered").into_inner().message().await.expect("no error").expect("one answer");
    assert!(format!("{answer:?}").contains("manyhands.control.v1.Control"));
}
