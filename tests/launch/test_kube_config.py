"""How a launch finds the API server and proves who it is: certificates, tokens, plug-ins, the pod's account."""

import base64
import datetime
import ipaddress
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from cotuning_tune.base.errors import UserError
from cotuning_tune.launch.kube_api import Api
from cotuning_tune.launch.kube_config import open_server
from tests.launch.kube_server import TOKEN, kube_server, write_kubeconfig


def _certificates(folder: Path) -> dict[str, Path]:
    """An authority, and what it has signed for a server on 127.0.0.1 and for a client."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    start, issuer, signer = datetime.datetime(2026, 1, 1), None, None
    found = {}
    for who in ("authority", "server", "client"):
        key, name = (
            ec.generate_private_key(ec.SECP256R1()),
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, who)]),
        )
        issuer, signer = issuer or name, signer or key
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        usage = {"digital_signature": True, "key_cert_sign": who == "authority", "crl_sign": who == "authority"}
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=36500))
            .add_extension(x509.BasicConstraints(who == "authority", None), critical=True)
            .add_extension(x509.KeyUsage(**usage, **dict.fromkeys(others, False), decipher_only=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(addresses, critical=False)
            .sign(signer, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        form = serialization.PrivateFormat.PKCS8
        for kind, data in (
            ("crt", made.public_bytes(pem)),
            ("key", key.private_bytes(pem, form, serialization.NoEncryption())),
        ):
            found[f"{who}.{kind}"] = folder / f"{who}.{kind}"
            found[f"{who}.{kind}"].write_bytes(data)
    return found


def _config(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    write_kubeconfig(path, "https://replaced", **user)
    text = json.loads(path.read_text())
    text["clusters"][0]["cluster"] = cluster
    path.write_text(json.dumps(text))
    return path


def test_certificates_of_both_sides(tmp_path: Path) -> None:
    """The server's is checked against the kubeconfig's authority, ours is shown; data goes before the file's name."""
    files = _certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files["authority.crt"]))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(files["server.crt"], files["server.key"])
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    with kube_server(tls) as kube:
        server = f"https://127.0.0.1:{kube.port}"
        as_files = _config(
            tmp_path / "files",
            {"server": server, "certificate-authority": "authority.crt"},
            {"client-certificate": "client.crt", "client-key": "client.key", "token": TOKEN},
        )
        as_data = _config(
            tmp_path / "data",
            {"server": server, "certificate-authority-data": data["authority.crt"], "certificate-authority": "none"},
            {"client-certificate-data": data["client.crt"], "client-key-data": data["client.key"], "token": TOKEN},
        )
        for path in (as_files, as_data):
            assert Api(open_server(str(path)), "default").find("ConfigMap", "none") is None


def test_a_credential_plugin_gives_a_certificate(tmp_path: Path) -> None:
    """Without a token too: the server is shown the certificate that the command has printed."""
    files = _certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files["authority.crt"]))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(files["server.crt"], files["server.key"])
    shown = {"clientCertificateData": files["client.crt"].read_text(), "clientKeyData": files["client.key"].read_text()}
    (tmp_path / "said.json").write_text(json.dumps({"status": shown}))
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/cat", "args": ["said.json"]}
    with kube_server(tls) as kube:
        cluster = {"server": f"https://127.0.0.1:{kube.port}", "certificate-authority": "authority.crt"}
        path = _config(tmp_path / "config", cluster, {"exec": plugin})
        with pytest.raises(UserError, match=r"does not know who you are \(401\)"):  # reached, with no token
            Api(open_server(str(path)), "default").find("ConfigMap", "none")


def test_a_server_of_another_authority_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the authority in the kubeconfig the server is not believed, and not asked."""
    monkeypatch.setattr("cotuning_tune.launch.kube_api.WAIT_S", 0.001)
    files = _certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files["server.crt"], files["server.key"])
    with kube_server(tls) as kube:
        path = _config(tmp_path / "config", {"server": f"https://127.0.0.1:{kube.port}"}, {"token": TOKEN})
        with pytest.raises(UserError, match=r"does not answer: .*CERTIFICATE_VERIFY_FAILED"):
            Api(open_server(str(path)), "default").find("ConfigMap", "none")
        assert kube.asked == []


def test_a_credential_plugin_gives_the_token(tmp_path: Path) -> None:
    """A user with ``exec``, as the clouds' clusters have it: the command's token is sent."""
    program = tmp_path / "plugin.py"
    program.write_text(
        "import json, os, sys\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        "if sys.argv[1:]: sys.exit('who are you?\\nlog in first')\n"
        "print(json.dumps({'status': {'token': os.environ['GIVEN'] + '\\n'}}))\n"
    )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(program)],
        "env": [{"name": "GIVEN", "value": TOKEN}],
    }
    with kube_server() as kube:
        server = f"http://127.0.0.1:{kube.port}"
        path = write_kubeconfig(tmp_path / "config", server, exec=plugin)
        assert Api(open_server(str(path)), "default").find("ConfigMap", "none") is None
        plugin["args"].append("fail")
        write_kubeconfig(path, server, exec=plugin)
        with pytest.raises(UserError, match="gave no credentials: log in first"):
            open_server(str(path))


def test_the_pods_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod without a kubeconfig: the service account's token and authority."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="no kubeconfig: set KUBECONFIG"):
        open_server(account=tmp_path)
    files = _certificates(tmp_path)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "namespace").write_text("default")
    (tmp_path / "ca.crt").write_bytes(files["authority.crt"].read_bytes())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files["server.crt"], files["server.key"])
    with kube_server(tls) as kube:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kube.port))
        client = open_server(account=tmp_path)
        assert TOKEN not in repr(client)
        assert Api(client, "default").find("ConfigMap", "none") is None
        (tmp_path / "token").write_text("renewed")
        kube.errors = [(401, "expired")]
        with pytest.raises(UserError, match="renew the credentials"):
            Api(client, "default").find("ConfigMap", "none")
        assert kube.tokens == [TOKEN, TOKEN, "renewed"]


def test_a_token_in_a_file(tmp_path: Path) -> None:
    """``tokenFile``, beside the kubeconfig that names it; it goes before ``token``, as with kubectl."""
    (tmp_path / "secret").write_text(f"{TOKEN}\n")
    with kube_server() as kube:
        server = f"http://127.0.0.1:{kube.port}"
        path = write_kubeconfig(tmp_path / "config", server, tokenFile="secret", token="another")
        assert Api(open_server(str(path)), "default").find("ConfigMap", "none") is None


def test_a_proxy_of_the_kubeconfig(tmp_path: Path) -> None:
    """``proxy-url``: the server is asked through it."""
    with kube_server() as kube:
        cluster = {"server": "http://127.0.0.1:1", "proxy-url": f"http://127.0.0.1:{kube.port}"}
        path = _config(tmp_path / "config", cluster, {"token": TOKEN})
        assert Api(open_server(str(path)), "default").find("ConfigMap", "none") is None
        assert len(kube.asked) == 1


def test_a_server_below_a_path(tmp_path: Path) -> None:
    """As Rancher has it: the path of the address goes before that of the object."""
    with kube_server() as kube:
        path = write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{kube.port}/clusters/one/", token=TOKEN)
        assert Api(open_server(str(path)), "team a").find("ConfigMap", "none") is None
        assert kube.asked == [("GET", "/clusters/one/api/v1/namespaces/team%20a/configmaps/none")]


def test_several_files_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG may name several files: the first to say something holds, as with kubectl."""
    one = write_kubeconfig(tmp_path / "one", "http://127.0.0.1:1", token="a")
    two = write_kubeconfig(tmp_path / "two", "http://127.0.0.1:2", token="b")
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'none'}:{two}")
    assert str(open_server().base_url) == "http://127.0.0.1:1"
    with pytest.raises(UserError, match="no context of the kubeconfig 'her', did you mean 'here'"):
        open_server(context="her")


@pytest.mark.parametrize(
    ("cluster", "user", "said"),
    [
        ({"server": "http://10.0.0.1:8080"}, {}, "is not the address of an API server"),
        ({"server": "https://h", "insecure-skip-tls-verify": True}, {}, "would give the token to anybody"),
        ({"server": "https://h", "certificate-authority": "none"}, {}, "none of the kubeconfig cannot be read"),
        ({"server": "https://h", "certificate-authority-data": "YQ=="}, {}, "cannot be used"),
        ({"server": "https://h", "certificate-authority-data": "no base64"}, {}, "cannot be used"),
        ({"server": "https://h", "proxy-url": "ftp://h"}, {}, "proxy of the kubeconfig cannot be used"),
        ({"server": "https://h:x"}, {}, "cannot be used: Invalid port: 'x'"),
        ({"server": ["https://h"]}, {}, "is not the address of an API server"),
        ({"server": "https://h"}, {"tokenFile": "none"}, "none of the kubeconfig cannot be read"),
        ({"server": "https://h"}, {"client-certificate-data": "YQ=="}, "without its client-key"),
        ({"server": "https://h"}, {"username": ["me"]}, "is not a kubeconfig: Expected `str | null`, got `array`"),
        ({"server": "https://h"}, {"auth-provider": {}}, "auth-provider in the kubeconfig is no longer"),
        ({"server": "https://h"}, {"exec": {"command": "/none"}}, "/none of the kubeconfig cannot be run"),
        ({"server": "https://h"}, {"exec": {"command": "/bin/true"}}, "/bin/true of the kubeconfig gave no Exec"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(
    cluster: dict[str, Any], user: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """One line each."""
    with pytest.raises(UserError, match=said):
        open_server(str(_config(tmp_path / "config", cluster, user)))


def test_no_kubeconfig(tmp_path: Path) -> None:
    """A file that is named must be there; one without a current context says what to set."""
    with pytest.raises(UserError, match="there is no such file"):
        open_server(str(tmp_path / "none"))
    (tmp_path / "empty").write_text("kind: Config\n")
    with pytest.raises(UserError, match="has no current-context"):
        open_server(str(tmp_path / "empty"))
