# One image a role. They differ in their configuration alone: every layer is the same.
{
  pkgs,
  workspace,
  revision,
}:
let
  inherit (pkgs) dockerTools lib;
  inherit (workspace) kurir version;

  # Not an account of any system; the same as in k8s/ and compose.yaml.
  user = "65532:65532";

  # ports: the first of the role in docs/operations.md.
  image =
    role: ports:
    dockerTools.buildLayeredImage {
      name = "kurir-${role}";
      tag = version;
      # The same bytes whenever it is built.
      created = "1970-01-01T00:00:01Z";
      contents = [
        kurir
        dockerTools.caCertificates
        # /etc/nsswitch.conf: names of /etc/hosts first, then DNS.
        dockerTools.fakeNss
      ];
      config = {
        Entrypoint = [
          "/bin/kurir"
          role
        ];
        User = user;
        WorkingDir = "/";
        StopSignal = "SIGTERM";
        # No setting of kurir's: the environment is stronger than a file, and would win over the operator's.
        Env = [ "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" ];
        ExposedPorts = lib.genAttrs (map (port: "${toString port}/tcp") (lib.attrValues ports)) (_: { });
        Labels = {
          "org.opencontainers.image.title" = "kurir-${role}";
          "org.opencontainers.image.description" = "${kurir.meta.description}: the ${role}";
          "org.opencontainers.image.licenses" = kurir.meta.license.spdxId;
          "org.opencontainers.image.version" = version;
          "org.opencontainers.image.revision" = revision;
        };
      };
    };
in
{
  image-tracker = image "tracker" {
    client = 5000;
    admin = 5090;
    grpc = 5100;
  };
  image-manager = image "manager" {
    client = 5001;
    admin = 5091;
    grpc = 5101;
  };
  image-relay = image "relay" {
    client = 5010;
    admin = 5092;
    grpc = 5110;
  };
}
