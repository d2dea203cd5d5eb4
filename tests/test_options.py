"""Settings: who wins, where each value came from, and what every mistake is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import zq.options
from zq.errors import AccessDenied, Refused
from zq.options import OPTIONS, PORTS, Settings, default_name, files, host_and_port, load, markdown


@pytest.fixture(autouse=True)
def empty_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory, home and system without settings files."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(zq.options, "SYSTEM_FILE", tmp_path / "etc" / "zq.toml")
    monkeypatch.delenv("ZQ_HOST_DIR")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_nothing_set_gives_the_defaults() -> None:
    settings = load()
    assert settings.realm == "default"
    assert settings.key_file is None
    assert settings.insecure is False
    assert settings.interfaces == ()
    assert settings.discovery == ("host", "mdns")
    assert settings.port is None
    assert settings.ports == PORTS == (20_000, 32_767)
    assert settings.host_dir is None
    assert set(settings.origin.values()) == {"default"}
    assert set(settings.origin) == {option.name for option in OPTIONS}


def test_argument_wins_over_environment_over_file_over_default(
    monkeypatch: pytest.MonkeyPatch, empty_place: Path
) -> None:
    write(empty_place / "here" / "zq.toml", 'realm = "file"')
    assert (load().realm, load().origin["realm"]) == ("file", "zq.toml")
    monkeypatch.setenv("ZQ_REALM", "environment")
    assert (load().realm, load().origin["realm"]) == ("environment", "ZQ_REALM")
    settings = load(realm="argument", name=None)
    assert (settings.realm, settings.origin["realm"]) == ("argument", "argument")
    assert settings.origin["name"] == "default"


def test_the_first_settings_file_that_exists_is_read_alone(empty_place: Path) -> None:
    write(empty_place / "etc" / "zq.toml", 'realm = "system"')
    assert load().realm == "system"
    write(empty_place / "config" / "zq" / "config.toml", 'name = "user"')
    assert (load().realm, load().name) == ("default", "user")
    write(empty_place / "here" / "zq.toml", "")
    assert load().name != "user"


def test_without_xdg_config_home_the_file_is_in_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert files()[1] == Path("/home/somebody/.config/zq/config.toml")
    monkeypatch.delenv("HOME")
    assert files() == (Path("zq.toml"), zq.options.SYSTEM_FILE)


def test_every_kind_of_value_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "ZQ_NAME": "kitchen/sensor:1",
        "ZQ_REALM": "lab.2",
        "ZQ_KEY_FILE": "",
        "ZQ_INSECURE": "Yes",
        "ZQ_INTERFACES": "127.0.0.1, ::1,lo",
        "ZQ_DISCOVERY": "mdns,dir:/shared/zq",
        "ZQ_SEEDS": "gateway:20000, [fd00::7]:20001",
        "ZQ_PORT": "7000",
        "ZQ_PORTS": "7000-7010",
        "ZQ_HOST_DIR": "/run/zq",
    }
    assert set(values) == {option.environment for option in OPTIONS}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings == Settings(
        name="kitchen/sensor:1",
        realm="lab.2",
        insecure=True,
        interfaces=("127.0.0.1", "::1", "lo"),
        discovery=("mdns", "dir:/shared/zq"),
        seeds=("gateway:20000", "[fd00::7]:20001"),
        port=7000,
        ports=(7000, 7010),
        host_dir=Path("/run/zq"),
    )
    set_ones = [option for option in OPTIONS if option.name != "key_file"]  # it excludes insecure
    assert {option.name: settings.origin[option.name] for option in set_ones} == {
        option.name: option.environment for option in set_ones
    }


def test_a_key_file_is_a_path_wherever_it_is_set(monkeypatch: pytest.MonkeyPatch, empty_place: Path) -> None:
    write(empty_place / "here" / "zq.toml", 'key_file = "lab.key"')
    assert load().key_file == Path("lab.key")
    monkeypatch.setenv("ZQ_KEY_FILE", "~/realm.key")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load().key_file == Path("/home/somebody/realm.key")
    settings = load(key_file=Path("/etc/realm.key"), interfaces=["lo"], port=7000, discovery=["mdns"])
    assert settings.key_file == Path("/etc/realm.key")
    assert settings.networked
    assert not Settings(name="x").networked


def test_a_key_and_insecure_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_KEY_FILE", "realm.key")
    with pytest.raises(Refused, match=r"insecure from argument and key_file from ZQ_KEY_FILE: .*; leave one out"):
        load(insecure=True)
    assert load(insecure=False).networked


def test_every_kind_of_value_is_read_from_a_file(empty_place: Path) -> None:
    write(
        empty_place / "here" / "zq.toml",
        'insecure = true\ninterfaces = ["127.0.0.1", "lo"]\ndiscovery = "none"\nport = 7000\nports = [7000, 7010]\n'
        'host_dir = "/run/zq"',
    )
    settings = load()
    assert settings.interfaces == ("127.0.0.1", "lo")
    assert settings.discovery == ()
    assert (settings.port, settings.ports) == (7000, (7000, 7010))
    assert settings.host_dir == Path("/run/zq")


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_REALM", "")
    assert load().origin["realm"] == "default"


def test_one_interface_as_text_is_one_interface() -> None:
    assert load(insecure=True, interfaces="127.0.0.1").interfaces == ("127.0.0.1",)


def test_false_as_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_INSECURE", "1")
    assert load().insecure is True
    assert load(insecure=False).insecure is False


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("name", ""),
        ("name", "two words"),
        ("name", "a//b"),
        ("name", "x" * 256),
        ("name", "line\n"),
        ("realm", "/lab"),
        ("realm", 5),
        ("key_file", ""),
        ("key_file", 5),
        ("insecure", "maybe"),
        ("insecure", 1),
        ("interfaces", "lo,,eth0"),
        ("interfaces", [1]),
        ("interfaces", 7),
        ("discovery", "hosts"),
        ("discovery", "none,host"),
        ("port", 0),
        ("port", 65_536),
        ("port", True),
        ("port", "+7000"),
        ("port", 7000.0),
        ("ports", "7000"),
        ("ports", "7010-7000"),
        ("ports", (7000,)),
        ("ports", "a-b"),
        ("host_dir", "relative/path"),
        ("host_dir", 5),
        ("host_dir", "~nobody-of-this-name/zq"),
    ],
)
def test_a_bad_value_is_refused_with_its_origin_and_what_is_allowed(name: str, bad: object) -> None:
    (option,) = [option for option in OPTIONS if option.name == name]
    with pytest.raises(Refused) as caught:
        load(**{"insecure": name != "key_file", name: bad})
    assert str(caught.value).startswith(f"{name} from argument: {bad!r} is not possible")
    assert option.allowed in str(caught.value)


def test_a_bad_value_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_PORT", "abc")
    with pytest.raises(Refused, match=r"port from ZQ_PORT: 'abc' is not possible; allowed: 1 to 65535"):
        load()


def test_an_unknown_name_is_refused_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch, empty_place: Path) -> None:
    with pytest.raises(Refused, match=r"relm in the arguments is not an option of zq; did you mean realm\?"):
        load(relm="x")
    write(empty_place / "here" / "zq.toml", 'interface = ["lo"]')
    with pytest.raises(Refused, match=r"interface in zq\.toml .*did you mean interfaces\?"):
        load()
    (empty_place / "here" / "zq.toml").unlink()
    monkeypatch.setenv("ZQ_DISCOVER", "host")
    with pytest.raises(Refused, match=r"ZQ_DISCOVER in the environment .*did you mean ZQ_DISCOVERY\?"):
        load()


@pytest.mark.parametrize(
    "seed",
    ["gateway", "gateway:", ":20000", "gateway:0", "gateway:65536", "fd00::7:20000", "tcp://gateway:20000", "a b:1"],
)
def test_a_seed_that_is_not_host_and_port_is_refused_and_shown_how(seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_SEEDS", f"good:20000,{seed}")
    with pytest.raises(Refused) as caught:
        load(insecure=True)
    assert str(caught.value).startswith(f"seeds from ZQ_SEEDS: {seed!r} is not host:port, such as gateway:20000")


def test_a_seed_has_two_parts() -> None:
    assert host_and_port("gateway.lan:20000") == ("gateway.lan", 20_000)
    assert host_and_port("[fd00::7]:1") == ("fd00::7", 1)
    assert host_and_port("[fe80::7%eth0]:1") == ("fe80::7%eth0", 1)
    assert host_and_port("fd00::7") is None


def test_a_shared_directory_has_an_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(insecure=True, discovery=["dir:~/zq"]).discovery == ("dir:~/zq",)
    with pytest.raises(
        Refused, match=r"discovery from argument: 'dir:shared' is no absolute path; write dir:/shared/zq"
    ):
        load(insecure=True, discovery=["host", "dir:shared"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interfaces", ["lo"]),
        ("port", 7000),
        ("seeds", ["gateway:20000"]),
        ("discovery", ["mdns"]),
        ("discovery", ["host", "dir:/shared"]),
    ],
)
def test_what_needs_a_network_is_refused_without_one(name: str, value: object) -> None:
    with pytest.raises(Refused, match=f"{name} from argument: without key_file this peer uses no network"):
        load(**{name: value})
    assert load(insecure=True, **{name: value})


def test_settings_made_by_hand_are_checked_too() -> None:
    with pytest.raises(Refused, match="realm from argument"):
        Settings(name="x", realm="not a realm")


@pytest.mark.parametrize("text", ["realm = ", "\xff"])
def test_a_settings_file_that_makes_no_sense_is_refused(empty_place: Path, text: str) -> None:
    (empty_place / "here" / "zq.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(Refused, match=r"settings file zq\.toml"):
        load()


def test_a_settings_file_that_cannot_be_read_is_no_reason_to_go_on_without(empty_place: Path) -> None:
    (empty_place / "here" / "zq.toml").mkdir()
    with pytest.raises(AccessDenied, match=r"settings file zq\.toml: Is a directory"):
        load()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/usr/bin/sensor.py", "sensor"),
        ("/opt/pipeline/__main__.py", "pipeline"),
        ("-c", "python"),
        ("", "python"),
        ("/tmp/my job.py", "my-job"),
        ("/tmp/" + "x" * 400, "x" * 200),
    ],
)
def test_the_default_name_is_the_program_and_its_process(
    program: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert default_name() == f"{expected}-{os.getpid()}"
    assert load().name == default_name()


def test_documentation_derives_from_the_table() -> None:
    assert markdown() in (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"`{option.environment}`" in markdown() for option in OPTIONS)
    assert [option.flag for option in OPTIONS if option.on_command_line] == [
        "--name",
        "--realm",
        "--key-file",
        "--insecure",
        "--interfaces",
        "--discovery",
        "--seeds",
    ]
