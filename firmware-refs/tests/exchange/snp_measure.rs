//! Output of `sev-snp-measure`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use firmware_refs::exchange::snp_measure;

use super::*;

fn measured(output: &str) -> Result<Vec<String>, &'static str> {
    let imported = snp_measure::import_unsigned(output.as_bytes(), document(SNP, "b"), NOW).map_err(|d| d.code())?;
    let snp = imported.set.document().snp.as_ref().unwrap();
    assert!(snp.measurement[0].source.as_str().starts_with("sev-snp-measure sha256:"), "{}", snp.measurement[0].source);
    Ok(snp.measurement.iter().map(|accepted| accepted.digest.hex()).collect())
}

#[test]
fn text_and_json_are_read() {
    let (one, two) = ("1c".repeat(48), "2d".repeat(48));
    let base64 = STANDARD.encode([0x1c; 48]);
    for output in [
        format!("{one}\n"),
        format!("{base64}\n"),
        format!("{{\"measurement\": \"{one}\", \"vcpus\": 4}}"),
        format!("[{{\"measurement\": \"sha384:{one}\"}}]"),
    ] {
        assert_eq!(measured(&output), Ok(vec![one.clone()]), "{output}");
    }
    assert_eq!(measured(&format!("{one}\n{two}\n{one}\n")), Ok(vec![one, two]));
}

#[test]
fn anything_else_is_refused() {
    for (output, code) in [
        (String::new(), "import.empty"),
        ("[]".to_owned(), "import.empty"),
        ("1c".repeat(32), "import.malformed"),
        (format!("{}\nerror", "1c".repeat(48)), "import.malformed"),
        ("{\"digest\": \"1c\"}".to_owned(), "import.malformed"),
        ("{\"measurement\"".to_owned(), "import.truncated"),
        (" ".repeat((1 << 20) + 1), "import.too_large"),
    ] {
        assert_eq!(measured(&output), Err(code), "{output:.40}");
    }
}
