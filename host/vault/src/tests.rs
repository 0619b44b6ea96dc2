use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use picloud_core::{AppId, SecretName, SecretVersion};

use super::*;
use crate::rotation::LostFile;

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes().to_vec()).unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SECRET_KEYS_FILE);
    (folder, path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_value_comes_back_only_at_its_place() {
    let (_folder, path) = in_folder();
    let vault = Vault::open(&path, &[]).unwrap();
    let (app, name) = (AppId::generate(), name("stripe"));
    let place = SecretPlace { app, name: &name, version: SecretVersion::from_i64(7) };
    let sealed = vault.seal(place, &value("sk_live_1")).unwrap();
    assert_eq!(vault.unseal(place, &sealed).unwrap().expose(), "sk_live_1");
    assert!(!sealed.ciphertext.windows(4).any(|window| window == b"live"));
    let other_name = SecretName::new("stripf").unwrap();
    let elsewhere = [
        SecretPlace { app: AppId::generate(), ..place },
        SecretPlace { name: &other_name, ..place },
        SecretPlace { version: SecretVersion::from_i64(8), ..place },
    ];
    for place in elsewhere {
        assert!(matches!(vault.unseal(place, &sealed), Err(VaultError::Tampered)), "{place:?}");
    }
    for byte in 0..sealed.ciphertext.len() {
        let mut changed = sealed.clone();
        changed.ciphertext[byte] ^= 1;
        assert!(matches!(vault.unseal(place, &changed), Err(VaultError::Tampered)), "byte {byte}");
    }
    let mut changed = sealed.clone();
    changed.nonce[0] ^= 1;
    assert!(matches!(vault.unseal(place, &changed), Err(VaultError::Tampered)));
    let again = vault.seal(place, &value("sk_live_1")).unwrap();
    assert_ne!((again.nonce, &again.ciphertext), (sealed.nonce, &sealed.ciphertext));
}

#[test]
fn the_file_is_made_once_and_for_its_owner_alone() {
    let (_folder, path) = in_folder();
    Vault::open(&path, &[]).unwrap();
    let first = read(&path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    Vault::open(&path, &[]).unwrap();
    assert_eq!(read(&path), first);
    for mode in [0o640, 0o604, 0o660, 0o610] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = Vault::open(&path, &[]).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn no_key_is_made_where_one_is_missing() {
    let (_folder, path) = in_folder();
    let used = SecretKeyId::from_random([1; 8]);
    let error = Vault::open(&path, std::slice::from_ref(&used)).unwrap_err().to_string();
    assert!(error.contains("k0101010101010101") && error.contains("put the file back"), "{error}");
    assert!(!path.exists());
    assert!(matches!(
        Rotation::begin(&path, std::slice::from_ref(&used), LostFile::Refuse),
        Err(VaultError::FileMissing { .. })
    ));

    let vault = Vault::open(&path, &[]).unwrap();
    assert_eq!(vault.missing(std::slice::from_ref(&used)), std::slice::from_ref(&used));
    let name = name("a");
    let place = SecretPlace { app: AppId::generate(), name: &name, version: SecretVersion::from_i64(1) };
    let mut sealed = vault.seal(place, &value("x")).unwrap();
    sealed.key = used;
    let error = vault.unseal(place, &sealed).unwrap_err().to_string();
    assert!(error.contains("the key k0101010101010101"), "{error}");
}

#[test]
fn a_wrong_line_is_named_and_not_shown() {
    let (_folder, path) = in_folder();
    let key = "ab".repeat(32);
    let id = "k0000000000000001";
    for (text, line, problem) in [
        (String::new(), 1, "no key"),
        ("# nothing\n".into(), 1, "no key"),
        (format!("{id} {key}\nnonsense\n"), 2, "the id of a key and the key"),
        (format!("x1 {key}\n"), 1, "16 hexadecimal digits"),
        (format!("{id} {}\n", &key[1..]), 1, "64 hexadecimal digits"),
        (format!("{id} {}g\n", &key[1..]), 1, "64 hexadecimal digits"),
        (format!("{id} {key}\n\n{id} {key}\n"), 3, "that of another one"),
    ] {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = Vault::open(&path, &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}")) && error.contains(problem), "{text:?}: {error}");
        assert!(!error.contains("abab"), "{error}");
    }
}

#[test]
fn a_rotation_is_followed_and_keeps_what_is_in_use() {
    let (_folder, path) = in_folder();
    let server = Vault::open(&path, &[]).unwrap();
    let name = name("stripe");
    let place = SecretPlace { app: AppId::generate(), name: &name, version: SecretVersion::from_i64(1) };
    let old = server.seal(place, &value("v")).unwrap();

    let rotation = Rotation::begin(&path, std::slice::from_ref(&old.key), LostFile::Refuse).unwrap();
    let opened = rotation.vault().unseal(place, &old).unwrap();
    let new = rotation.vault().seal(place, &opened).unwrap();
    assert_eq!(&new.key, rotation.new_key());
    // The server goes on, with a file that has changed under it.
    assert_eq!(server.unseal(place, &new).unwrap().expose(), "v");
    assert_eq!(server.seal(place, &value("w")).unwrap().key, new.key);
    assert!(rotation.finish(std::slice::from_ref(&new.key)).unwrap().is_empty(), "the one before is kept");

    let rotation = Rotation::begin(&path, std::slice::from_ref(&new.key), LostFile::Refuse).unwrap();
    let newest = rotation.new_key().clone();
    assert_eq!(rotation.finish(std::slice::from_ref(&newest)).unwrap(), [old.key]);
    assert_eq!(server.unseal(place, &new).unwrap().expose(), "v");
    assert_eq!(server.missing(std::slice::from_ref(&new.key)), []);

    // Of a rotation that was interrupted the key is in the file; the next one begins anew and cleans up.
    drop(Rotation::begin(&path, &[], LostFile::Refuse).unwrap());
    let rotation = Rotation::begin(&path, &[], LostFile::Refuse).unwrap();
    let removed = rotation.finish(&[]).unwrap();
    assert_eq!(removed, [new.key, newest]);
}

#[test]
fn a_lost_file_is_replaced_only_if_that_is_asked_for() {
    let (_folder, path) = in_folder();
    let used = SecretKeyId::from_random([1; 8]);
    let rotation = Rotation::begin(&path, std::slice::from_ref(&used), LostFile::Replace).unwrap();
    assert_eq!(rotation.vault().missing(std::slice::from_ref(&used)), [used]);
}

#[test]
fn nothing_of_a_vault_is_printed() {
    let (_folder, path) = in_folder();
    let vault = Vault::open(&path, &[]).unwrap();
    let text = read(&path);
    let key = text.lines().last().unwrap().split_once(' ').unwrap().1;
    assert!(!format!("{vault:?}").contains(key));
}
