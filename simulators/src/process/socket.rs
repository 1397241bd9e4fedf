//! The Unix sockets: a big-endian u32 length and a JSON document, both ways.

use std::{
    io::{self, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{Device, Knobs, ProcessError, Request, doing};

/// What the control socket takes. Other keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// What to change.
    pub set: Knobs,
}

/// A listening socket, mode 0600; its file is removed when it is dropped.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // Nothing more can be done about a file that is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds `path`, making its folder (mode 0700) where there is none. A socket that nobody answers on is replaced.
pub fn bind(path: &Path) -> Result<BoundSocket, ProcessError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(doing("making", folder))?;
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(ProcessError::State(format!("{} is in use", path.display())));
        }
        std::fs::remove_file(path).map_err(doing("removing", path))?;
    }
    let listener = UnixListener::bind(path).map_err(doing("binding", path))?;
    let bound = BoundSocket { listener, path: path.to_owned() };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(doing("restricting", path))?;
    Ok(bound)
}

/// Answers requests for reports in threads of their own, for the life of the process.
pub fn serve_reports(socket: &BoundSocket, device: Arc<Device>) -> Result<(), ProcessError> {
    serve(socket, move |request: Request| match device.answer(&request) {
        Ok(answer) => json!(answer),
        Err(error) => json!({ "error": error }),
    })
}

/// Answers changes in threads of their own, for the life of the process.
pub fn serve_control(socket: &BoundSocket, device: Arc<Device>) -> Result<(), ProcessError> {
    serve(socket, move |control: Control| match device.set(&control.set) {
        Ok(generation) => json!({ "generation": generation }),
        Err(error) => json!({ "error": error }),
    })
}

/// One request and its answer, from the client's side.
pub fn exchange(path: &Path, request: &impl Serialize) -> io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(IDLE_LIMIT))?;
    stream.set_write_timeout(Some(IDLE_LIMIT))?;
    write_frame(&mut stream, &serde_json::to_vec(request)?)?;
    let answer = read_frame(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&answer)?)
}

fn serve<T, F>(socket: &BoundSocket, answer: F) -> Result<(), ProcessError>
where
    T: DeserializeOwned,
    F: Fn(T) -> serde_json::Value + Send + Sync + 'static,
{
    let listener = socket.listener.try_clone().map_err(doing("sharing", &socket.path))?;
    let answer = Arc::new(answer);
    let live = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let place = Place::take(&live);
            if place.0.load(Ordering::SeqCst) > CONNECTIONS_CAP {
                continue;
            }
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                // A peer that breaks off or is too slow loses its connection, and nobody else.
                let _ = converse(stream, answer.as_ref());
                drop(place);
            });
        }
    });
    Ok(())
}

/// A connection's place among those that are live.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(live))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn converse<T: DeserializeOwned>(mut stream: UnixStream, answer: &dyn Fn(T) -> serde_json::Value) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE_LIMIT))?;
    stream.set_write_timeout(Some(IDLE_LIMIT))?;
    while let Some(frame) = read_frame(&mut stream)? {
        let said = match serde_json::from_slice(&frame) {
            Ok(request) => answer(request),
            Err(error) => json!({ "error": format!("request: {error}") }),
        };
        write_frame(&mut stream, &serde_json::to_vec(&said)?)?;
    }
    Ok(())
}

/// None at a clean end.
fn read_frame(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 4];
    if stream.read(header.get_mut(..1).unwrap_or_default())? == 0 {
        return Ok(None);
    }
    stream.read_exact(header.get_mut(1..).unwrap_or_default())?;
    let len = u64::from(u32::from_be_bytes(header));
    if len > FRAME_CAP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes are more than {FRAME_CAP}")));
    }
    let mut frame = Vec::new();
    let read = stream.take(len).read_to_end(&mut frame)?;
    if u64::try_from(read).is_ok_and(|read| read == len) {
        Ok(Some(frame))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn write_frame(stream: &mut UnixStream, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes(), frame].concat())
}

const FRAME_CAP: u64 = 256 * 1024;
const CONNECTIONS_CAP: usize = 64;
const IDLE_LIMIT: Duration = Duration::from_secs(10);
