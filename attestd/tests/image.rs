//! Executions in OCI images: what they find there, and which images are refused for what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod authorized;
mod images;

use std::path::{Path, PathBuf};

use attestd::gateway::{
    Asker, Environment, Executable, Gateway, GatewayError, Image, ImageError, Outcome, Root, WORKLOAD_SOCKET, Workload,
};
use authorized::{IMAGE_CAP_BYTES, artifact, domain, gateway, intent, key, lease_ms, variable, workload};
use evidence::digest::Sha256Digest;
use governance::intent::Domains;
use governance::isolation::Isolation;
use governance::on_halt::OnHalt;
use governance::text::Text;
use tokio::io::AsyncReadExt;

/// Unpacks a layout's image as the daemon does.
fn unpacked(gateway: &Gateway, named: &str) -> Result<(Image, Root, Executable, Environment), GatewayError> {
    let image = Image::open(named)?;
    let environment = Environment::new(variable("LANG"), &["LANG".to_owned()].into())?.over(&image.environment)?;
    let (root, executable) =
        gateway.unpack(Asker::Operator, &image, &image.argv[0], environment.search_path(), &image.directory)?;
    Ok((image, root, executable, environment))
}

/// What a program says that runs in an image; none where the machine has no user namespaces.
async fn said_in(layout: &str, isolation: Isolation) -> Option<String> {
    let gateway = gateway();
    let (image, root, executable, environment) = match unpacked(&gateway, layout) {
        Err(GatewayError::Image(ImageError::Unavailable(lacks))) => {
            println!("not tested: {lacks}");
            return None;
        }
        unpacked => unpacked.unwrap(),
    };
    let argv: Vec<&str> = image.argv.iter().map(String::as_str).collect();
    let mut intent = intent(&executable, &argv, Domains::All([domain("a.example")].into()));
    intent.workload.image = Some(image.digest());
    intent.isolation = isolation;
    let artifact = artifact("a.example", &intent, Sha256Digest(*executable.digest()));
    let working_directory = image.directory.clone();
    let workload = Workload { environment, working_directory, root: Some(root), ..workload(executable) };
    let mut running = gateway.start(&[artifact], &intent, workload, vec![key()], lease_ms(60_000)).await.unwrap();
    let (mut stdout, mut stderr) = running.take_outputs().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    let ended = running.ended().await;
    assert_eq!((err.as_str(), ended.outcome), ("", Outcome::Exited(0)), "{out}");
    Some(out)
}

#[tokio::test]
async fn what_runs_in_an_image_has_its_files_its_key_and_nothing_of_the_machine() {
    let script = format!(
        "#!/bin/sh\ncat /etc/motto; echo $GREETING $LANG; pwd; cat <&$ATTESTD_KEY_FD_DB; echo; \
         test -e {WORKLOAD_SOCKET} && echo socket; test -e {here} || echo apart; \
         test -e /proc/{machine}/root/ || echo unreached; echo more >> /etc/motto; cat /etc/motto; \
         echo x > /dev/null; while read name value; do case $name in CapEff:|CapBnd:|NoNewPrivs:) echo $name $value;; esac; \
         done < /proc/self/status; echo /*; ls /proc/self/fd\n",
        here = env!("CARGO_MANIFEST_DIR"),
        machine = std::process::id(), // which has the machine's files, and is this user's
    );
    let layer =
        images::Layer::with_shell().folder("etc").file("etc/motto", "of the image\n").program("app/greet", &script);
    let layout = images::Layout::new(vec![layer.bytes()]).write();
    let Some(said) = said_in(layout.path(), Isolation::default()).await else { return };
    let mut lines = said.lines();
    let expected = [
        "of the image",
        "hello C",
        "/app",
        "canary-key-material",
        "socket",
        "apart",
        "unreached",
        "of the image",
        "more",
    ];
    assert_eq!(lines.by_ref().take(expected.len()).collect::<Vec<_>>(), expected);
    let none = ["CapEff: 0000000000000000", "CapBnd: 0000000000000000"];
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), none);
    assert_eq!(lines.next(), Some("NoNewPrivs: 1"));
    let root = lines.next().unwrap();
    assert!(root.contains("/app /bin") && !root.contains("/home") && !root.contains("/sys"), "{root}");
    // Standard streams, the key, the executable (a script's interpreter reads it), and the folder that is being read.
    assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
}

/// umoci reads and writes layouts by a library of its own.
#[tokio::test]
async fn an_image_that_another_tool_made_runs() {
    let work = tempfile::tempdir().unwrap();
    let layout = work.path().join("layout");
    let archive = images::Layer::with_shell().file("etc/motto", "by another tool").bytes();
    let umoci = |arguments: &[&str]| {
        let ran = std::process::Command::new("umoci").args(arguments).current_dir(work.path()).output();
        ran.map(|output| assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)))
    };
    if let Err(error) = umoci(&["init", "--layout", "layout"]) {
        return println!("not tested: umoci: {error}");
    }
    umoci(&["new", "--image", "layout:v1"]).unwrap();
    umoci(&["unpack", "--rootless", "--image", "layout:v1", "bundle"]).unwrap();
    tar::Archive::new(archive.as_slice()).unpack(work.path().join("bundle/rootfs")).unwrap();
    umoci(&["repack", "--image", "layout:v1", "bundle"]).unwrap();
    let script = "--config.cmd=echo $(cat /etc/motto) $GREETING in $(pwd)";
    let said = "--config.env=GREETING=says hello";
    let configured = ["config", "--image", "layout:v1", "--config.entrypoint=sh", "--config.cmd=-c", script, said];
    umoci(&[&configured[..], &["--config.workingdir=/made/for/it"]].concat()).unwrap();
    let Some(said) = said_in(layout.to_str().unwrap(), Isolation::default()).await else { return };
    assert_eq!(said, "by another tool says hello in /made/for/it\n");
}

#[tokio::test]
async fn layers_replace_hide_and_stay_within_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().to_str().unwrap();
    let lower = images::Layer::with_shell()
        .folder("a")
        .file("a/kept", "low")
        .file("a/replaced", "low")
        .file("a/hidden", "low")
        .folder("b")
        .file("b/low", "low")
        .folder("b/sub")
        .file("b/sub/low", "low")
        .folder("c")
        .file("c/folder-to-file", "low")
        .link("out", outside)
        .link("up", "../../../../../../..");
    let upper = images::Layer::new()
        .file("a/replaced", "high")
        .file("a/.wh.hidden", "")
        .file("b/sub/high", "high")
        .file("b/.wh..wh..opq", "")
        .file("c", "now a file")
        .entry(tar::EntryType::Link, "a/linked", 0o644, "a/kept", &[])
        .folder("out")
        .file("out/stray", "stray")
        .file("up/stray", "stray")
        .entry(tar::EntryType::Regular, "set-id", 0o6755, "", b"x")
        .program("app/greet", "#!/bin/sh\ncd /; test -u set-id || test -g set-id || test -x set-id && echo plain; for f in a/* b/* b/sub/* c out/* stray; do echo $f; done; cat a/replaced c a/linked");
    let layout = images::Layout::new(vec![lower.bytes(), upper.bytes()]).write();
    let Some(said) = said_in(layout.path(), Isolation::default()).await else { return };
    let expected = "plain\na/kept\na/linked\na/replaced\nb/sub\nb/sub/high\nc\nout/stray\nstray\nhighnow a filelow";
    assert_eq!(said, expected);
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0, "a layer wrote to the machine");
}

#[tokio::test]
async fn an_image_is_confined_as_its_intent_asks() {
    let confined = Isolation {
        files: Some(governance::isolation::Files {
            read: ["/bin", "/lib", "/lib64", "/app", "/proc"].map(|path| Text::new(path).unwrap()).into(),
            ..Default::default()
        }),
        seccomp: governance::isolation::Seccomp::Default,
        ..Isolation::default()
    };
    let script = "#!/bin/sh\nif cat /etc/motto 2>/proc/self/fd/1; then echo read; else echo refused; fi\n";
    let layer = images::Layer::new().folder("lib64").file("etc/motto", "of the image\n").program("app/greet", script);
    let layer = layer.and_shell();
    let layout = images::Layout::new(vec![layer.bytes()]).write();
    if gateway().admit(&confined, OnHalt::Kill).is_err() {
        println!("not tested: no Landlock or seccomp here");
        return;
    }
    let Some(said) = said_in(layout.path(), confined).await else { return };
    assert!(said.contains("Permission denied") && said.ends_with("refused\n"), "{said}");
}

#[tokio::test]
async fn another_image_than_the_intent_names_is_refused() {
    let layout =
        images::Layout::new(vec![images::Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes()]).write();
    let gateway = gateway();
    let Ok((image, root, executable, environment)) = unpacked(&gateway, layout.path()) else {
        println!("not tested: no user namespaces here");
        return;
    };
    let mut named = intent(&executable, &["greet"], Domains::All([domain("a.example")].into()));
    let digest = Sha256Digest(*executable.digest());
    let without = artifact("a.example", &named, digest);
    let inside = Workload { environment: environment.clone(), root: Some(root), ..workload(executable) };
    let refused = gateway.start(&[without], &named, inside, vec![key()], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::Request { what }) if what.contains("image")), "{:?}", refused.err());

    named.workload.image = Some(Sha256Digest::of(b"another"));
    let (_, root, executable, environment) = unpacked(&gateway, layout.path()).unwrap();
    let other = artifact("a.example", &named, digest);
    let inside = Workload { environment, root: Some(root), ..workload(executable) };
    let refused = gateway.start(&[other], &named, inside, vec![key()], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::Request { what }) if what.contains("image")), "{:?}", refused.err());
    assert_ne!(image.digest(), Sha256Digest::of(b"another"));
}

/// Layouts with one defect each, and what is said of it.
#[tokio::test]
async fn an_image_with_one_defect_is_refused_for_it() {
    use images::{Layer, Layout, flip};
    let good = || Layout::new(vec![Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes()]);
    let only = |layer: Layer| {
        Layout::new(vec![Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes(), layer.bytes()])
    };
    let gateway = gateway();
    match unpacked(&gateway, good().write().path()) {
        Ok(_) => {}
        Err(GatewayError::Image(ImageError::Unavailable(lacks))) => return println!("not tested: {lacks}"),
        Err(error) => panic!("{error}"),
    }
    let manifest = |change: fn(&mut serde_json::Value)| {
        let mut layout = good();
        layout.described();
        change(&mut layout.manifest);
        layout.write()
    };
    let configured = |change: fn(&mut serde_json::Value)| {
        let mut layout = good();
        change(&mut layout.configuration);
        layout.write()
    };
    let harmed = |which: fn(&Layout, &serde_json::Value) -> PathBuf| {
        let mut layout = good();
        let descriptor = layout.described();
        layout.index(std::slice::from_ref(&descriptor));
        flip(&which(&layout, &descriptor));
        layout
    };
    let mut truncated = good();
    truncated.described();
    let blob = truncated.blob_path(&truncated.manifest["layers"][0]);
    let short = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, &short[..short.len() / 2]).unwrap();
    let compressed = {
        let mut layout = only(Layer::new().file("x", "x"));
        let descriptor = layout.described();
        layout.index(&[descriptor]);
        flip(&layout.blob_path(&layout.manifest["layers"][1]));
        layout
    };
    let bomb = vec![0; usize::try_from(IMAGE_CAP_BYTES).unwrap() + 1024];
    let cases: Vec<(&str, Layout, &str)> = vec![
        ("manifest", harmed(|layout, manifest| layout.blob_path(manifest)), "manifest is"),
        ("configuration", harmed(|layout, _| layout.blob_path(&layout.manifest["config"])), "configuration is"),
        ("layer", harmed(|layout, _| layout.blob_path(&layout.manifest["layers"][0])), "layer sha256:"),
        ("compressed layer", compressed, "layer sha256:"),
        ("truncated layer", truncated.write(), "layer sha256:"),
        ("layer's length", manifest(|manifest| manifest["layers"][0]["size"] = 1.into()), "of 1 bytes is sha256:"),
        (
            "length of the configuration",
            manifest(|manifest| manifest["config"]["size"] = 1.into()),
            "its descriptor says otherwise",
        ),
        (
            "kind of layer",
            manifest(|m| m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into()),
            "+zstd",
        ),
        (
            "kind of configuration",
            manifest(|manifest| manifest["config"]["mediaType"] = "text/plain".into()),
            "text/plain",
        ),
        ("no layers", manifest(|manifest| manifest["layers"] = serde_json::json!([])), "0 layers and 1 diff_ids"),
        ("digest", manifest(|manifest| manifest["layers"][0]["digest"] = "md5:00".into()), "md5:00"),
        (
            "diff_id",
            configured(|c| c["rootfs"]["diff_ids"][0] = format!("sha256:{}", "00".repeat(32)).into()),
            "its diff_id is 00",
        ),
        ("architecture", configured(|c| c["architecture"] = "s390x".into()), "is for linux/s390x"),
        ("system", configured(|c| c["os"] = "windows".into()), "is for windows/"),
        ("directory", configured(|c| c["config"]["WorkingDir"] = "app".into()), "is no absolute path"),
        ("variable", configured(|c| c["config"]["Env"] = serde_json::json!(["=x"])), "NAME=VALUE"),
        (
            "our variable",
            configured(|c| c["config"]["Env"] = serde_json::json!(["ATTESTD_X=x"])),
            "the image sets ATTESTD_X",
        ),
        ("program", configured(|c| c["config"]["Entrypoint"] = serde_json::json!(["absent"])), "holds no \"absent\""),
        (
            "program that is a folder",
            configured(|c| c["config"]["Entrypoint"] = serde_json::json!(["/app"])),
            "/app: is no regular file",
        ),
        ("path upwards", only(Layer::new().file("../escaped", "x")), "leads out of the image"),
        ("device", only(Layer::new().entry(tar::EntryType::Block, "disk", 0o600, "", &[])), "is a device"),
        ("whiteout of nothing", only(Layer::new().file("app/.wh...", "x")), ".wh..."),
        ("no archive", Layout::new(vec![vec![7; 2048]]), "is no archive"),
        (
            "too large a layer",
            only(Layer::new().entry(tar::EntryType::Regular, "zeros", 0o644, "", &bomb)),
            "more than 67108864 bytes",
        ),
        (
            "too large an image",
            {
                let half = vec![0; usize::try_from(IMAGE_CAP_BYTES).unwrap() * 2 / 3];
                let file = |name| Layer::new().entry(tar::EntryType::Regular, name, 0o644, "", &half).bytes();
                Layout::new(vec![
                    Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes(),
                    file("one"),
                    file("two"),
                ])
            },
            "larger than gateway.image_cap_bytes",
        ),
    ];
    for (defect, layout, says) in cases {
        let layout = if layout.dir.path().join("index.json").exists() { layout } else { layout.write() };
        let refused = unpacked(&gateway, layout.path()).err().unwrap_or_else(|| panic!("{defect}: unpacked"));
        assert!(refused.to_string().contains(says), "{defect}: {refused}");
    }
}

#[tokio::test]
async fn which_image_of_a_layout_is_meant_is_never_guessed() {
    let mut layout = images::Layout::new(vec![images::Layer::new().program("app/greet", "#!/bin/sh\n").bytes()]);
    let first = layout.described();
    layout.manifest["annotations"] = serde_json::json!({ "build": "2" });
    let second = layout.described();
    layout.index(&[first.clone(), second.clone()]);
    let digest = |descriptor: &serde_json::Value| descriptor["digest"].as_str().unwrap().to_owned();
    let refused = Image::open(layout.path()).unwrap_err().to_string();
    assert!(
        refused.contains(&digest(&first)) && refused.contains(&digest(&second)) && refused.contains("v1"),
        "{refused}"
    );
    for one in [&first, &second] {
        let image = Image::open(&format!("{}@{}", layout.path(), digest(one))).unwrap();
        assert_eq!(format!("sha256:{}", image.digest()), digest(one));
    }
    let absent = format!("{}@sha256:{}", layout.path(), "00".repeat(32));
    assert!(Image::open(&absent).unwrap_err().to_string().contains("no image sha256:00"));

    // One image for several machines: the one for this machine.
    let mut elsewhere = second.clone();
    elsewhere["platform"] = serde_json::json!({ "os": "linux", "architecture": "s390x" });
    let nested = serde_json::json!({ "schemaVersion": 2, "manifests": [first, elsewhere] });
    let nested = layout.blob(images::INDEX, nested.to_string().as_bytes());
    layout.index(&[nested]);
    assert_eq!(format!("sha256:{}", Image::open(layout.path()).unwrap().digest()), digest(&first));
    layout.index(&[]);
    assert!(Image::open(layout.path()).unwrap_err().to_string().contains("there is none"));
    std::fs::write(layout.dir.path().join("oci-layout"), r#"{"imageLayoutVersion": "2.0.0"}"#).unwrap();
    assert!(Image::open(layout.path()).unwrap_err().to_string().contains("2.0.0"));
    assert!(Image::open("relative").unwrap_err().to_string().contains("not absolute"));
    assert!(matches!(Image::open("/nonexistent"), Err(ImageError::Unreadable { .. })));
}

#[tokio::test]
async fn images_that_wait_have_a_bounded_number_of_places_and_workloads_take_none_of_the_operators() {
    let program = images::Layer::with_shell().program("app/greet", "#!/bin/sh\n");
    let layout = images::Layout::new(vec![program.bytes()]).write();
    let gateway = gateway();
    let image = Image::open(layout.path()).unwrap();
    let unpack = |asker| gateway.unpack(asker, &image, "greet", "/app", Path::new("/"));
    match unpack(Asker::Operator) {
        Err(GatewayError::Image(ImageError::Unavailable(lacks))) => return println!("not tested: {lacks}"),
        unpacked => drop(unpacked.unwrap()),
    }
    for (asker, places) in [(Asker::Workload, 2), (Asker::Operator, 4)] {
        let mut waiting: Vec<_> = (0..places).map(|_| unpack(asker).unwrap()).collect();
        assert!(matches!(unpack(asker), Err(GatewayError::TooManyImages)));
        waiting.pop();
        waiting.push(unpack(asker).unwrap());
        std::mem::forget(waiting); // those of workloads are still there when operators ask
    }
}
