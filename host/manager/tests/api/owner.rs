//! The first owner and its token file.

use std::os::unix::fs::PermissionsExt as _;

use picloud_manager::{OWNER_TOKEN_FILE, OwnerError, OwnerToken, ensure_owner, reset_owner_token};
use picloud_store::{TokenHash, testing::TestDatabase};

#[tokio::test]
async fn the_first_start_makes_an_owner_and_later_ones_find_it() {
    let store = TestDatabase::create().await.store().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OWNER_TOKEN_FILE);
    assert_eq!(ensure_owner(&store, folder.path()).await.unwrap(), OwnerToken::Created(path.clone()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&path).unwrap();
    let grant = store.authenticate(TokenHash::of(token.trim())).await.unwrap().unwrap();
    assert_eq!(grant.scopes.len(), 7);
    assert_eq!(ensure_owner(&store, folder.path()).await.unwrap(), OwnerToken::Valid(path));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[tokio::test]
async fn a_lost_or_stale_file_is_told_and_can_be_reset() {
    let store = TestDatabase::create().await.store().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OWNER_TOKEN_FILE);
    assert!(matches!(reset_owner_token(&store, folder.path()).await, Err(OwnerError::NoOwner)));
    ensure_owner(&store, folder.path()).await.unwrap();
    let old = std::fs::read_to_string(&path).unwrap();

    std::fs::remove_file(&path).unwrap();
    let missing = ensure_owner(&store, folder.path()).await.unwrap();
    assert_eq!(missing, OwnerToken::Missing(path.clone()));
    assert!(missing.to_string().contains("picloud token reset"));

    assert_eq!(reset_owner_token(&store, folder.path()).await.unwrap(), OwnerToken::Valid(path.clone()));
    assert_eq!(ensure_owner(&store, folder.path()).await.unwrap(), OwnerToken::Valid(path.clone()));
    assert!(store.authenticate(TokenHash::of(old.trim())).await.unwrap().is_none(), "the old one is revoked");

    std::fs::write(&path, old).unwrap();
    let stale = ensure_owner(&store, folder.path()).await.unwrap();
    assert_eq!(stale, OwnerToken::Stale(path.clone()));
    assert!(stale.to_string().contains("picloud token reset"));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = ensure_owner(&store, folder.path()).await.unwrap_err();
    assert!(matches!(open, OwnerError::FileIsOpen { mode: 0o644, .. }), "{open}");
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let first = TestDatabase::create().await.store().await;
    ensure_owner(&first, folder.path()).await.unwrap();
    let token = std::fs::read_to_string(folder.path().join(OWNER_TOKEN_FILE)).unwrap();
    // The file is there, the owner is not: as if the machine had stopped in between.
    let second = TestDatabase::create().await.store().await;
    let made = ensure_owner(&second, folder.path()).await.unwrap();
    assert!(matches!(made, OwnerToken::Created(_)));
    assert!(second.authenticate(TokenHash::of(token.trim())).await.unwrap().is_some());
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_an_error_with_its_name() {
    let store = TestDatabase::create().await.store().await;
    let error = ensure_owner(&store, std::path::Path::new("/nonexistent/picloud")).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/picloud/owner-token"), "{error}");
    assert!(store.first_owner().await.unwrap().is_none());
}
