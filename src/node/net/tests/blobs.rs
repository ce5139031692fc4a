//! Blobs from one holder, from several, and from liars.

use super::*;
use crate::node::net::{FetchError, Wanted, blobs::HolderFailure, limits::BLOB_CHUNK_BYTES};

/// Bytes that differ from chunk to chunk.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 7 + i / BLOB_CHUNK_BYTES) as u8).collect()
}

fn wanted(blob: &[u8]) -> Wanted {
    Wanted { digest: Digest::of(blob), length: None, at_most: 64 << 20 }
}

async fn holder(shelf: Shelf, fetcher: &Node) -> Node {
    let node = Node::start_with(Identity::generate().unwrap(), Membership::public(), shelf).await;
    fetcher.knows(&node);
    node
}

fn shelf(blob: &[u8]) -> Shelf {
    Shelf { blobs: BTreeMap::from([(Digest::of(blob), blob.to_vec())]), ..Shelf::default() }
}

/// A shelf that gives `lie` for `blob`.
fn lying(blob: &[u8], lie: Vec<u8>) -> Shelf {
    Shelf { lies: BTreeMap::from([(Digest::of(blob), lie)]), ..Shelf::default() }
}

#[tokio::test]
async fn blobs_of_every_size_arrive_whole() {
    let fetcher = Node::start(Membership::public()).await;
    for length in [0, 1, BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES + 1, 5 << 20] {
        let blob = bytes(length);
        let node = holder(shelf(&blob), &fetcher).await;
        let exact = Wanted { length: Some(length as u64), ..wanted(&blob) };
        let fetched = in_time(fetcher.handle.fetch_blob(exact, &[node.peer()], Vec::new())).await.unwrap().unwrap();
        assert!(fetched.sink == blob && fetched.length == length as u64 && fetched.liars.is_empty(), "{length} bytes");
        shutdown([node]).await;
    }
    shutdown([fetcher]).await;
}

#[tokio::test]
async fn a_transfer_that_breaks_goes_on_at_another_holder() {
    let fetcher = Node::start(Membership::public()).await;
    let blob = bytes(BLOB_CHUNK_BYTES * 4 + 3);
    let breaking = Shelf { breaks_at: Some(2 * BLOB_CHUNK_BYTES as u64), ..shelf(&blob) };
    let breaking = holder(breaking, &fetcher).await;
    // The second one can give only what comes after: it is asked for nothing before.
    let sound = holder(shelf(&blob), &fetcher).await;
    let holders = [some_peer(), breaking.peer(), sound.peer()];
    let fetched = in_time(fetcher.handle.fetch_blob(wanted(&blob), &holders, Vec::new())).await.unwrap().unwrap();
    assert!(fetched.sink == blob);
    assert_eq!(fetched.from, [breaking.peer(), sound.peer()]);
    shutdown([fetcher, breaking, sound]).await;
}

#[tokio::test]
async fn a_liar_is_found_and_the_blob_is_had_from_another() {
    let fetcher = Node::start(Membership::public()).await;
    let blob = bytes(BLOB_CHUNK_BYTES * 2 + 9);
    let mut lie = blob.clone();
    lie[5] ^= 1;
    let liar = holder(lying(&blob, lie), &fetcher).await;
    let sound = holder(shelf(&blob), &fetcher).await;
    let fetched = in_time(fetcher.handle.fetch_blob(wanted(&blob), &[liar.peer(), sound.peer()], Vec::new())).await.unwrap().unwrap();
    assert!(fetched.sink == blob);
    assert_eq!((fetched.liars, fetched.from), (vec![liar.peer()], vec![sound.peer()]));
    shutdown([fetcher, liar, sound]).await;
}

#[tokio::test]
async fn a_lie_mixed_with_the_truth_is_told_apart() {
    let fetcher = Node::start(Membership::public()).await;
    let blob = bytes(BLOB_CHUNK_BYTES * 3);
    let mut lie = blob.clone();
    lie[5] ^= 1;
    // Lies in the first chunk, then breaks: the sound one completes a whole that is wrong.
    let liar = holder(Shelf { breaks_at: Some(BLOB_CHUNK_BYTES as u64), ..lying(&blob, lie) }, &fetcher).await;
    let sound = holder(shelf(&blob), &fetcher).await;
    let fetched = in_time(fetcher.handle.fetch_blob(wanted(&blob), &[liar.peer(), sound.peer()], Vec::new())).await.unwrap().unwrap();
    assert!(fetched.sink == blob);
    assert_eq!((fetched.liars, fetched.from), (vec![], vec![sound.peer()]), "nobody is accused without proof");
    shutdown([fetcher, liar, sound]).await;
}

#[tokio::test]
async fn a_blob_that_nobody_can_give_is_an_error_with_reasons() {
    let fetcher = Node::start(Membership::public()).await;
    let blob = bytes(100);
    let empty = holder(Shelf::default(), &fetcher).await;
    let liar = holder(lying(&blob, bytes(99)), &fetcher).await;
    let large = holder(lying(&blob, bytes(2000)), &fetcher).await;
    let wanted = Wanted { at_most: 1000, ..wanted(&blob) };
    let holders = [empty.peer(), liar.peer(), large.peer()];
    let error = in_time(fetcher.handle.fetch_blob(wanted, &holders, Vec::new())).await.unwrap().unwrap_err();
    let FetchError::NoHolder { failures } = error else { panic!("{error:?}") };
    let expected =
        [(empty.peer(), HolderFailure::NotHeld), (liar.peer(), HolderFailure::Lied), (large.peer(), HolderFailure::WrongLength(2000))];
    assert_eq!(failures, expected);
    shutdown([fetcher, empty, liar, large]).await;
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_fetch() {
    struct Full;
    impl super::super::BlobSink for Full {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn restart(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let fetcher = Node::start(Membership::public()).await;
    let blob = bytes(100);
    let node = holder(shelf(&blob), &fetcher).await;
    let error = in_time(fetcher.handle.fetch_blob(wanted(&blob), &[node.peer()], Full)).await.unwrap().map(|_| ()).unwrap_err();
    assert!(matches!(error, FetchError::Sink(source) if source.kind() == io::ErrorKind::StorageFull));
    shutdown([fetcher, node]).await;
}
