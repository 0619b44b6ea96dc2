//! Events that are taken back, and where events come from.

use std::time::Duration;

use picloud_core::{
    Effects, Emission, Emitted, ErrorCode, EventId, EventKind, EventOrigin, ExecutionId, ExecutionRecord,
    Fault, GroupKey, KvReads, Lineage, MessageOptions, Outcome, PrincipalId, QueueName, RequestId,
    ScriptName, Usage,
};
use picloud_store::{
    Acknowledge, CommitTerms, HistoryBatch, KvCommit, NewEvent, NodeState, StoreError, TreeNode, Verdict,
    WaitState,
};
use time::OffsetDateTime;

use crate::{
    fixture::QUOTA,
    outbox::{Fixture, NO_LIMIT, done, fault, ids, message},
};

fn grouped(body: &str) -> NewEvent {
    NewEvent { group: Some(GroupKey::new("a").unwrap()), ..message("jobs", body) }
}

#[tokio::test]
async fn a_group_goes_on_whichever_of_its_messages_is_taken_back() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let by = PrincipalId::generate();
    let mut sent = Vec::new();
    for body in ["1", "2", "3", "4"] {
        sent.push(fixture.send(grouped(body)).await);
    }
    let cancel = |id: EventId| fixture.store.cancel_event(fixture.app, id, by);
    // One in the middle, the first, and then the one that is due.
    cancel(sent[1]).await.unwrap();
    cancel(sent[0]).await.unwrap();
    let claimed = fixture.claim(&fixture.store, 10).await;
    assert_eq!(ids(&claimed), [sent[2]]);
    assert!(matches!(cancel(sent[2]).await, Err(StoreError::Conflict)));
    // While the first waits for its next attempt, one behind it goes, and it still waits.
    let wait = Verdict::Retry { delay: Duration::from_hours(1), fault: fault("x") };
    fixture.settle(&claimed[0], wait).await;
    cancel(sent[3]).await.unwrap();
    assert!(fixture.claim(&fixture.store, 10).await.is_empty());
    cancel(sent[2]).await.unwrap();
    assert_eq!((fixture.count("outbox").await, fixture.count("queue_groups").await), (0, 0));
    assert_eq!(fixture.count("dead_letters WHERE resolution = 'ignored'").await, 4);
    assert!(matches!(cancel(sent[2]).await, Err(StoreError::NotFound { what: "event" })));
    let last = fixture.send(grouped("5")).await;
    assert_eq!(ids(&fixture.claim(&fixture.store, 10).await), [last]);
}

/// Whoever ends the first message of a group and whoever takes the next one back do it one after the other.
#[tokio::test]
async fn a_message_that_is_taken_back_while_the_one_before_it_ends_holds_up_no_group() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    let first = fixture.send(grouped("1")).await;
    let second = fixture.send(grouped("2")).await;
    let third = fixture.send(grouped("3")).await;
    let claimed = fixture.claim(&fixture.store, 10).await;
    assert_eq!(ids(&claimed), [first]);
    // Holds the group, so that both come to it at the same time.
    let held = fixture.database.hold("SELECT FROM queue_groups FOR UPDATE").await;
    let (store, app) = (fixture.store.clone(), fixture.app);
    let cancelled =
        tokio::spawn(async move { store.cancel_event(app, second, PrincipalId::generate()).await });
    fixture.database.until_blocked().await;
    let ended = async {
        held.commit().await;
        fixture.settle(&claimed[0], done(&claimed[0])).await;
    };
    ended.await;
    cancelled.await.unwrap().unwrap();
    assert_eq!(ids(&fixture.claim(&fixture.store, 10).await), [third]);
}

fn record(app: picloud_core::AppId, id: ExecutionId, origin: Option<EventOrigin>) -> ExecutionRecord {
    ExecutionRecord {
        id,
        request_id: RequestId::generate(),
        app,
        script: ScriptName::new("work").unwrap(),
        version: 1,
        kind: if origin.is_some() { EventKind::Queue } else { EventKind::Http },
        origin,
        started_at: OffsetDateTime::now_utc(),
        outcome: Outcome::Succeeded,
        status: None,
        usage: Usage::default(),
        logs: picloud_core::Logs::default(),
        egress: Vec::new(),
    }
}

fn sends(queue: &str, id: EventId) -> Effects {
    let queue = QueueName::new(queue).unwrap();
    let what = Emitted::Message { queue, body: "1".into(), options: MessageOptions::default() };
    Effects { events: vec![Emission { id, what }], ..Effects::default() }
}

fn told(node: &TreeNode) -> (EventId, Option<EventId>, Option<&str>, &'static str, u16) {
    (node.id, node.parent, node.kind.as_deref(), node.state.as_str(), node.attempts)
}

#[tokio::test]
async fn a_tree_begins_with_the_request_and_has_what_waits_what_ran_and_what_was_given_up() {
    let fixture = Fixture::new().await;
    fixture.consumer("jobs").await;
    fixture.consumer("mails").await;
    // A request sends a message.
    let request = ExecutionId::generate();
    let first = EventId::generate();
    let terms = CommitTerms { execution: Some(request), ..CommitTerms::from(QUOTA) };
    let reads = KvReads::default();
    let committed = fixture.store.kv_commit(fixture.app, &reads, &sends("jobs", first), terms).await;
    assert!(matches!(committed, Ok(KvCommit::Committed { .. })));
    // Its handler fails once, then sends two.
    let claimed = fixture.claim(&fixture.store, 10).await.remove(0);
    assert_eq!(claimed.lineage, Lineage::of_run(request));
    fixture.settle(&claimed, Verdict::Retry { delay: Duration::ZERO, fault: fault("busy") }).await;
    let claimed = fixture.claim(&fixture.store, 10).await.remove(0);
    let (second, third) = (EventId::generate(), EventId::generate());
    let mut effects = sends("mails", second);
    effects.events.extend(sends("mails", third).events);
    let acknowledge = Acknowledge { claim: claimed.claim, lineage: claimed.lineage, dead_letter: None };
    let run = ExecutionId::generate();
    let terms =
        CommitTerms { execution: Some(run), acknowledge: Some(acknowledge), ..CommitTerms::from(QUOTA) };
    assert!(matches!(
        fixture.store.kv_commit(fixture.app, &reads, &effects, terms).await,
        Ok(KvCommit::Committed { .. })
    ));
    // Of what that sent, one is given up and the other waits.
    let mails = fixture.claim(&fixture.store, 10).await;
    assert_eq!(
        mails[0].lineage,
        Lineage { root: EventId::from_uuid(request.as_uuid()), parent: Some(first), depth: 1 }
    );
    let dead = mails.iter().find(|mail| mail.claim.event == second).unwrap();
    fixture.settle(dead, Verdict::Dead { fault: fault("no"), script: None }).await;
    fixture.settle(&mails[1], Verdict::GiveBack { delay: Duration::ZERO }).await;

    let root = EventId::from_uuid(request.as_uuid());
    let tree = |id: EventId| {
        let (store, app) = (&fixture.store, fixture.app);
        async move {
            let found = store.root_of(app, id).await.unwrap().unwrap();
            store.tree(app, found).await.unwrap()
        }
    };
    // Nothing of the history is stored yet.
    let before = tree(third).await;
    assert_eq!(
        before.nodes.iter().map(told).collect::<Vec<_>>(),
        [
            (root, None, None, "done", 0),
            (first, Some(root), None, "done", 0),
            (second, Some(first), Some("queue"), "dead", 1),
            (third, Some(first), Some("queue"), "pending", 0),
        ]
    );
    let mut batch = HistoryBatch::default();
    let origin = |attempt| EventOrigin { event: first, lineage: claimed.lineage, trigger: None, attempt };
    let mut failed = record(fixture.app, ExecutionId::generate(), Some(origin(1)));
    failed.outcome =
        Outcome::Failed(Fault { code: ErrorCode::ScriptError, message: "busy".into(), position: None });
    batch.keep(failed);
    let last = ExecutionId::generate();
    batch.keep(record(fixture.app, last, Some(origin(2))));
    batch.keep(record(fixture.app, request, None));
    fixture.store.store_history(&batch).await.unwrap();
    for id in [root, first, second, third, EventId::from_uuid(last.as_uuid())] {
        let tree = tree(id).await;
        assert_eq!((tree.root, tree.is_cut), (root, false));
        assert_eq!(
            tree.nodes.iter().map(told).collect::<Vec<_>>(),
            [
                (root, None, Some("http"), "done", 1),
                (first, Some(root), Some("queue"), "done", 2),
                (second, Some(first), Some("queue"), "dead", 1),
                (third, Some(first), Some("queue"), "pending", 0),
            ]
        );
        assert_eq!((tree.nodes[0].execution, tree.nodes[1].execution), (Some(request), Some(last)));
        assert_eq!(tree.nodes[1].error, None, "the last run went well");
        assert_eq!(tree.nodes[3].state, NodeState::Waiting(WaitState::Pending));
    }
    assert_eq!(fixture.store.root_of(fixture.app, EventId::generate()).await.unwrap(), None);
    let other = fixture.store.create_app(&crate::fixture::app_name("other")).await.unwrap().id;
    assert_eq!(fixture.store.root_of(other, first).await.unwrap(), None);
    assert!(fixture.store.tree(other, root).await.unwrap().nodes.is_empty());
}

#[tokio::test]
async fn a_tree_of_very_many_events_is_cut() {
    let fixture = Fixture::new().await;
    let run = ExecutionId::generate();
    let events: Vec<NewEvent> =
        (0..1_200).map(|_| NewEvent { lineage: Lineage::of_run(run), ..message("jobs", "1") }).collect();
    fixture.store.enqueue(fixture.app, &events, NO_LIMIT).await.unwrap();
    let tree = fixture.store.tree(fixture.app, EventId::from_uuid(run.as_uuid())).await.unwrap();
    assert_eq!((tree.nodes.len(), tree.is_cut), (1_001, true), "with one for the request itself");
}
