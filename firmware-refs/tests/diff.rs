//! Two sets, told apart in words.
#![allow(clippy::unwrap_used)]

use firmware_refs::diff::differences;
use firmware_refs::set::ReferenceValueSet;

const TPM: &str = include_str!("../example.toml");

fn words(from: &str, to: &str) -> Vec<String> {
    let read = |text: &str| ReferenceValueSet::from_toml(text).unwrap();
    let (from, to) = (read(from), read(to));
    differences(from.document(), to.document()).unwrap().into_iter().map(|difference| difference.words).collect()
}

#[test]
fn a_set_does_not_differ_from_itself() {
    assert_eq!(words(TPM, TPM), Vec::<String>::new());
}

#[test]
fn every_change_is_told_by_register_event_file_and_field() {
    let ones = "1".repeat(64);
    let fours = "4".repeat(64);
    let twos = "2".repeat(64);
    let fives = "5".repeat(64);
    let second =
        format!("source = \"systemd-boot 252\" }}, {{ digest = \"sha256:{fives}\", source = \"systemd-boot 255\" }}]");
    let changes: [(&str, &str, Vec<String>); 7] = [
        ("version = 3", "version = 4", vec!["version: 3 → 4".into()]),
        (
            &format!("digest = \"sha256:{ones}\", source = \"OVMF 2022.11\""),
            &format!("digest = \"sha256:{fours}\", source = \"OVMF 2025.02\""),
            vec![format!("TPM, PCR 0: sha256:{ones} (OVMF 2022.11) → sha256:{fours} (OVMF 2025.02)")],
        ),
        (
            "source = \"systemd-boot 252\" }]",
            &second,
            vec![format!(
                "TPM, PCR 4, event EV_EFI_BOOT_SERVICES_APPLICATION \"systemd-boot\": now accepts sha256:{fives} (systemd-boot 255)"
            )],
        ),
        (
            "description = \"systemd-boot\"",
            "description = \"shim\"",
            vec![
                format!(
                    "TPM, PCR 4, event EV_EFI_BOOT_SERVICES_APPLICATION \"systemd-boot\": removed, accept sha256:{twos} (systemd-boot 252)"
                ),
                format!(
                    "TPM, PCR 4, event EV_EFI_BOOT_SERVICES_APPLICATION \"shim\": added, accept sha256:{twos} (systemd-boot 252)"
                ),
            ],
        ),
        (
            "exclude = [\"/run/\", \"/etc/mtab\"]",
            "exclude = [\"/etc/mtab\", \"/run/\", \"/var/tmp/\"]",
            vec!["TPM, IMA, exclude: now with /var/tmp/".into()],
        ),
        (
            "floor = \"2019102300163636\"",
            "floor = \"2019102300163637\"",
            vec!["TPM, firmware of id:49424D00, floor: 2019102300163636 → 2019102300163637".into()],
        ),
        (
            "platforms = { accept = \"enrolled\" }",
            "platforms = { accept = \"listed\", ek = [\"6666666666666666666666666666666666666666666666666666666666666666\"] }",
            vec![
                "TPM, platforms: enrolled → listed".into(),
                format!("TPM, platforms, ek: now with {}", "6".repeat(64)),
            ],
        ),
    ];
    for (from, to, expected) in changes {
        assert!(TPM.contains(from), "{from}");
        assert_eq!(words(TPM, &TPM.replace(from, to)), expected);
    }
}

#[test]
fn the_same_value_from_another_source_is_no_difference_of_what_matches() {
    let read = |text: &str| ReferenceValueSet::from_toml(text).unwrap();
    let (from, to) = (read(TPM), read(&TPM.replace("systemd-boot 252\" }", "a mirror\" }")));
    let found = differences(from.document(), to.document()).unwrap();
    let [only] = found.as_slice() else { panic!("{found:#?}") };
    assert!(only.origin_only);
    let twos = "2".repeat(64);
    let event = "TPM, PCR 4, event EV_EFI_BOOT_SERVICES_APPLICATION \"systemd-boot\"";
    assert_eq!(only.words, format!("{event}, sha256:{twos}, source: systemd-boot 252 → a mirror"));
}

#[test]
fn a_section_that_goes_takes_every_value_with_it() {
    let without = TPM[..TPM.find("# files that IMA measured").unwrap()]
        .replace("pcrs = [0, 4, 10]", "pcrs = [0, 4]")
        .replace("require_ima_log = true", "require_ima_log = false");
    let told = words(TPM, &without);
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told.iter().any(|words| words.starts_with("TPM, IMA, file /usr/bin/true: removed")), "{told:#?}");
    assert!(told.contains(&"TPM, pcrs: now without 10".to_owned()), "{told:#?}");
    let back = words(&without, TPM);
    assert!(back.contains(&"TPM, require ima log: false → true".to_owned()), "{back:#?}");
}
