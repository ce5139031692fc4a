//! Generates the gRPC code from `proto/`, in pure Rust: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "net")]
    generate()?;
    Ok(())
}

#[cfg(feature = "net")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    use protox::prost::Message as _;

    println!("cargo:rerun-if-changed=proto");
    let files = ["manyhands/peer/v1/service.proto", "manyhands/control/v1/control.proto", "manyhands/bundle/v1/bundle.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    // Served by gRPC reflection.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".manyhands").compile_fds(descriptors)?;
    Ok(())
}
