use super::*;

const GENUINE: &str = r#"
node_id = "node-1"
[tpm]
tcti = "swtpm:host=127.0.0.1,port=2321"
ek = "ecc-p256"
[logs]
event_log = "log.bin"
[[domain]]
name = "a.example"
nodes = "127.0.0.1:7443"
enrolment = "127.0.0.1:7444"
server_name = "verifier.a.example"
ca = "ca.pem"
[watch]
pcrs = [0, 1, 2, 3, 4, 7]
[halt]
action = "kill"
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("attestd.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path, environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
}

#[test]
fn the_genuine_configuration_is_read_and_said_in_words() {
    let config = load(GENUINE, &[]).unwrap();
    assert!(config.logs.event_log.as_ref().unwrap().is_absolute());
    let words = config.in_words();
    for part in ["node-1", "ECC P-256", "a.example", "0, 1, 2, 3, 4, 7", "1000 ms", "kills"] {
        assert!(words.contains(part), "{part} in {words}");
    }
}

#[test]
fn one_defect_each_is_refused() {
    let cases = [
        ("node_id = \"node-1\"", "node_id = \"node-1\"\ncolour = 1", "unknown field"),
        ("node_id = \"node-1\"", "", "missing field"),
        ("node_id = \"node-1\"", "node_id = \"../x\"", "node id"),
        ("ek = \"ecc-p256\"", "", "missing field"),
        ("node_id = \"node-1\"", "node_id = \"node-1\"\nplatform = \"sgx\"", "unknown variant"),
        ("node_id = \"node-1\"", "node_id = \"node-1\"\nplatform = \"sev-snp\"", "key tee"),
        ("[halt]", "[tee]\nreports = \"socket:/s\"\n[halt]", "has none"),
        ("ek = \"ecc-p256\"", "ek = \"any\"", "unknown variant"),
        ("swtpm:host=127.0.0.1,port=2321", "swtpm:host=localhost,port=2321", "must be device"),
        ("swtpm:host=127.0.0.1,port=2321", "swtpm:host=127.0.0.1,port=65535", "control channel"),
        ("swtpm:host=127.0.0.1,port=2321", "device:tpm0", "must be device"),
        ("pcrs = [0, 1, 2, 3, 4, 7]", "", "must not be empty"),
        ("pcrs = [0, 1, 2, 3, 4, 7]", "pcrs = []", "must not be empty"),
        ("pcrs = [0, 1, 2, 3, 4, 7]", "pcrs = [16]", "resettable"),
        ("pcrs = [0, 1, 2, 3, 4, 7]", "pcrs = [24]", "does not exist"),
        ("action = \"kill\"", "", "missing field"),
        ("action = \"kill\"", "action = \"freeze\"", "halt.cgroup"),
        ("action = \"kill\"", "action = { drain = { grace_ms = 60000 } }", "1 to 10000"),
        ("ca = \"ca.pem\"", "", "missing field"),
        ("nodes = \"127.0.0.1:7443\"", "nodes = \"nowhere\"", "HOST:PORT"),
        ("[halt]", "[gateway]\nenvironment = [\"LD_PRELOAD\"]\n[halt]", "what code"),
    ];
    for (from, to, expected) in cases {
        let error = load(&GENUINE.replace(from, to), &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{to:?}: {error}");
    }
}

#[test]
fn overrides_replace_and_unknown_ones_are_refused() {
    let config = load(
        GENUINE,
        &[("ATTESTD_WATCH_INTERVAL_MS", "50"), ("ATTESTD_TPM_TCTI", "device:/dev/tpmrm0"), ("PATH", "/bin")],
    )
    .unwrap();
    assert_eq!(config.watch.interval_ms, 50);
    assert_eq!(config.identity.tpm().unwrap().tcti, Tcti::Device("/dev/tpmrm0".into()));
    let capped = load(GENUINE, &[("ATTESTD_GATEWAY_IMAGE_CAP_BYTES", "2097152")]).unwrap();
    assert_eq!((capped.gateway.image_cap_bytes, config.gateway.image_cap_bytes), (2 << 20, 1 << 30));
    // What a workload is told configures nothing.
    let told = [("ATTESTD_KEY_FD_LEDGER", "3"), ("ATTESTD_KEYS_SOCKET", "/run/attestd/keys.sock")];
    load(GENUINE, &told).unwrap();
    assert!(matches!(load(GENUINE, &[("ATTESTD_WATCH_PCRS", "0")]), Err(ConfigError::UnknownOverride { .. })));
    assert!(matches!(load(GENUINE, &[("ATTESTD_WATCH_INTERVAL_MS", "x")]), Err(ConfigError::Value { .. })));
}

const TD: &str = r#"
node_id = "node-1"
platform = "tdx"
[tee]
reports = "configfs:/sys/kernel/config/tsm/report"
ccel = "/sys/firmware/acpi/tables/data/CCEL"
[[domain]]
name = "a.example"
nodes = "127.0.0.1:7443"
enrolment = "127.0.0.1:7444"
server_name = "verifier.a.example"
ca = "ca.pem"
[halt]
action = "kill"
"#;

#[test]
fn a_tee_is_configured_without_a_tpm() {
    let config = load(TD, &[]).unwrap();
    assert!(matches!(config.identity, Identity::Tee(crate::tee::TeeKind::Tdx, _)));
    let words = config.in_words();
    for part in ["this TDX guest", "configfs:/sys", "CCEL", "looked for every 1000 ms"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    assert!(!words.contains("TPM") && !words.contains("IMA log"), "{words}");
    let snp = TD.replace("tdx", "sev-snp").replace("ccel = \"/sys/firmware/acpi/tables/data/CCEL\"", "privlevel = 1");
    let words = load(&snp, &[("ATTESTD_TEE_REPORTS", "socket:/run/simulator")]).unwrap().in_words();
    for part in ["this SEV-SNP guest", "simulator's", "VMPL 1"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    assert!(!words.contains("IMA"), "{words}");
}

#[test]
fn a_vtpm_on_a_tee_is_configured_with_both() {
    let both = GENUINE.replace("[tpm]", "platform = \"tpm-on-tdx\"\n[tee]\nreports = \"configfs:/r\"\n[tpm]");
    let config = load(&both, &[]).unwrap();
    assert!(config.identity.tpm().is_some() && config.identity.tee().is_some());
    let words = config.in_words();
    for part in ["bound to the TDX guest", "PCRs 0, 1"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    let error = load(&both.replace("pcrs = [0, 1, 2, 3, 4, 7]", ""), &[]).unwrap_err().to_string();
    assert!(error.contains("must not be empty"), "{error}");
}

#[test]
fn one_contradiction_each_of_a_tee_is_refused() {
    let cases = [
        ("platform = \"tdx\"", "", "key tee"),
        ("platform = \"tdx\"", "platform = \"tpm-on-tdx\"", "key tpm: missing"),
        ("platform = \"tdx\"", "platform = \"sev-snp\"", "tee.ccel"),
        ("[halt]", "[tpm]\ntcti = \"device:/dev/tpm0\"\nek = \"rsa-2048\"\n[halt]", "key tpm: platform"),
        ("[halt]", "[watch]\npcrs = [0]\n[halt]", "no TPM"),
        ("[halt]", "[watch]\ninterval_ms = 0\n[halt]", "1 to 600000"),
        ("[halt]", "[gateway]\nimage_cap_bytes = 0\n[halt]", "1048576 to 1099511627776"),
        ("[halt]", "[logs]\nevent_log = \"log\"\n[halt]", "tee.ccel"),
        ("[halt]", "[logs]\nima_log = \"log\"\n[halt]", "holds no IMA log"),
        ("configfs:/sys/kernel/config/tsm/report", "configfs:relative", "absolute"),
        ("configfs:/sys/kernel/config/tsm/report", "sev-guest:/dev/other", "must be"),
        ("configfs:/sys/kernel/config/tsm/report", "sev-guest:/dev/sev-guest", "no reports of a TD"),
        ("[tee]", "[tee]\nprivlevel = 1", "VMPL"),
        ("[tee]", "[tee]\nvmpl = 1", "unknown field"),
        ("[tee]", "[tee]\ndeadline_ms = 0", "1 to 600000"),
        ("[tee]", "[tee]\nservice_provider = \"\"", "such as svsm"),
        ("[tee]", "[tee]\nservice_provider = \"a/b\"", "such as svsm"),
    ];
    for (from, to, expected) in cases {
        assert!(TD.contains(from), "{from}");
        let error = load(&TD.replace(from, to), &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{to:?}: {error}");
    }
    let snp = TD.replace("tdx", "sev-snp").replace("ccel = \"/sys/firmware/acpi/tables/data/CCEL\"", "");
    load(&snp, &[]).unwrap();
    for (from, to, expected) in
        [("[tee]", "[tee]\nprivlevel = 4", "VMPL"), ("[halt]", "[logs]\nima_log = \"log\"\n[halt]", "holds no IMA log")]
    {
        let error = load(&snp.replace(from, to), &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{to:?}: {error}");
    }
    let socket = snp.replace("configfs:/sys/kernel/config/tsm/report", "socket:/s");
    let error = load(&socket.replace("[tee]", "[tee]\nservice_provider = \"svsm\""), &[]).unwrap_err().to_string();
    assert!(error.contains("configfs alone"), "{error}");
}
