import shlex
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplinear.experiment import Experiment, Loss, Start

names = st.text(min_size=1, max_size=12).filter(lambda text: text.encode("utf-8", "ignore").decode() == text)
above = lambda low, high: st.floats(low, high, exclude_min=True, exclude_max=True)
# settings alone: an experiment made inside a strategy would draw beartype's random numbers there
experiments = st.fixed_dictionaries(
    {
        "data": names.filter(lambda text: text[0] != "-"),
        "target": st.none() | names,
        "inputs": st.none() | names,
        "drop": st.none() | names,
        "missing": st.sampled_from(["refuse", "drop"]),
        "classes": st.none() | names,
        "hidden": st.lists(st.integers(1, 10**6), max_size=5).map(tuple),
        "start": st.sampled_from(Start.__args__),
        "scale": above(0, 1e308),
        "seed": st.integers(0, 2**63 - 1),
        "loss": st.sampled_from(Loss.__args__),
        "bias": st.booleans(),
        "skip": st.none() | st.sampled_from(["1:3", "0:2,1:3", "10:12"]),
        "rates": st.none() | st.lists(above(0, 1e308), min_size=1, max_size=4).map(tuple),
        "center": st.booleans(),
        "whiten": st.booleans(),
        "rtol": st.floats(1e-13, 0.1, exclude_max=True),
        "tolerance": above(1e-14, 1),
        "time": st.none() | above(0, 1e308),
        "max_steps": st.integers(1, 2**63 - 1),
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(experiments)
def test_toml_reads_back_to_the_same_experiment(tmp_path, chosen):
    experiment = Experiment(**chosen)
    (tmp_path / "run.toml").write_text(experiment.toml(), encoding="utf-8", newline="")
    again = Experiment.read(tmp_path / "run.toml")
    assert again == experiment and again.digest() == experiment.digest()


@settings(max_examples=150, deadline=None)
@given(experiments)
def test_command_says_everything(chosen):
    experiment = Experiment(**chosen)
    words = shlex.split(experiment.command())
    assert words[:3] == ["deeplinear", "learn", experiment.data]
    pairs, rest = [], words[3:]
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in ("--bias", "--center", "--whiten"):
            value = value if equals else rest.pop(0)
        pairs.append((option.removeprefix("--").replace("-", "_"), value or "true"))
    given_settings = dict(pairs)
    if experiment.hidden == ():
        assert given_settings.pop("hidden") == "true"
        given_settings["hidden"] = "[]"
    texts = ("target", "inputs", "drop", "classes")
    text = {"data": experiment.data, **{key: given_settings.pop(key) for key in texts if key in given_settings}}
    again = Experiment(**text).with_settings([f"{key}={value}" for key, value in given_settings.items()])
    assert again == experiment
    assert all(getattr(experiment, key) != Experiment.model_fields[key].default for key in given_settings)


@settings(max_examples=60, deadline=None)
@given(experiments, experiments)
def test_digests_differ_when_settings_do(a, b):
    a, b = Experiment(**a), Experiment(**b)
    assert (a.digest() == b.digest()) == (a == b)
    assert len(a.digest()) == 12


def test_digest_is_the_same_for_ever():
    # sha256 of the canonical JSON, worked out with sha256sum
    assert Experiment().digest() == "a9ae902e859b"
    assert Experiment(time=5).digest() == Experiment(time=5.0).digest()


def test_defaults_and_the_command_of_the_default():
    assert Experiment().command() == "deeplinear learn digits"
    assert Experiment().model_dump() == {
        "data": "digits",
        "target": None,
        "inputs": None,
        "drop": None,
        "missing": "refuse",
        "classes": None,
        "hidden": (32, 32),
        "start": "gaussian",
        "scale": 1e-3,
        "seed": 0,
        "loss": "half-mean",
        "bias": False,
        "skip": None,
        "rates": None,
        "center": False,
        "whiten": False,
        "rtol": 1e-6,
        "tolerance": 1e-6,
        "time": None,
        "max_steps": 10_000,
    }
    assert all(field.description for field in Experiment.model_fields.values())


def test_commands_are_quoted():
    experiment = Experiment(data="my data.csv", target="-a,b c", hidden=(), center=True, max_steps=5)
    expected = "deeplinear learn 'my data.csv' '--target=-a,b c' --hidden '' --center --max-steps 5"
    assert experiment.command() == expected


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ("32,16", (32, 16)),
        (" 32 , 16 ", (32, 16)),
        ("7", (7,)),
        ("7,", (7,)),
        ("[7, 8]", (7, 8)),
        ("", ()),
        ([4, 5], (4, 5)),
        (6, (6,)),
        (np.array([4, 5]), (4, 5)),
        ((np.int64(4),), (4,)),
    ],
)
def test_ways_to_write_widths(value, hidden):
    assert Experiment(hidden=value).hidden == hidden


@pytest.mark.parametrize("value", ["1,0.5", " 1 , .5 ", "[1.0, 5e-1]", [1, 0.5], np.array([1.0, 0.5]), (1, 0.5)])
def test_ways_to_write_rates(value):
    experiment = Experiment(rates=value)
    assert experiment.rates == experiment.layer_rates == (1.0, 0.5)
    assert experiment.command() == "deeplinear learn digits --rates 1.0,0.5"
    assert Experiment(rates=2).rates == (2.0,) and Experiment(rates="2").layer_rates == 2.0
    assert Experiment().layer_rates is None and "rates" not in Experiment().toml()


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("hidden=8,8", "hidden", (8, 8)),
        ("hidden = [8]", "hidden", (8,)),
        ("hidden=[]", "hidden", ()),
        ("rates=1,0.1", "rates", (1.0, 0.1)),
        ("rates=[1e-3, 2]", "rates", (1e-3, 2.0)),
        ("rates=.5", "rates", (0.5,)),
        ("max-steps=7", "max_steps", 7),
        ("start=balanced", "start", "balanced"),
        ('start="balanced"', "start", "balanced"),
        ("center=true", "center", True),
        ("target=2019", "target", "2019"),
        ("target=2020-01-01", "target", "2020-01-01"),
        ("target=a=b", "target", "a=b"),
        ("data=C:\\runs\\x.csv", "data", "C:\\runs\\x.csv"),
        ("time=3", "time", 3.0),
        ("rtol=1e-8", "rtol", 1e-8),
    ],
)
def test_settings_from_the_command_line(setting, key, value):
    changed = Experiment().with_settings([setting])
    assert getattr(changed, key) == value and type(getattr(changed, key)) is type(value)
    assert changed.model_copy(update={key: getattr(Experiment(), key)}) == Experiment()
    assert changed.with_settings([f"{key}="]) == Experiment()


def test_later_settings_win_and_the_original_stays():
    original = Experiment(seed=1)
    assert original.with_settings(["seed=2", "seed=3"]).seed == 3 and original.seed == 1
    with pytest.raises(ValueError, match="frozen"):
        original.seed = 2


BAD = [
    ({"hidden": (0,)}, r"^`hidden`: got 0; every width must be a positive integer$"),
    ({"hidden": (4, -1)}, r"^`hidden`: got -1; every width must be a positive integer$"),
    ({"hidden": "4,x"}, r"^`hidden`: got 'x'; every width must be a positive integer$"),
    ({"hidden": "4,,4"}, r"^`hidden`: got ''; every width must be a positive integer$"),
    ({"hidden": [4.0]}, r"^`hidden`: got 4.0; every width must be a positive integer$"),
    ({"hidden": (True,)}, r"^`hidden`: got True; every width must be a positive integer$"),
    ({"hidden": None}, r"^`hidden`: got None; every width must be a positive integer$"),
    (
        {"start": "gausian"},
        r"^`start`: got 'gausian'; did you mean 'gaussian'\? give one of gaussian, orthogonal, xavier",
    ),
    ({"loss": "l1"}, r"^`loss`: got 'l1'; give one of half-mean, mean, half-sum, sum, entry-mean$"),
    ({"scale": 0.0}, r"^`scale`: got 0.0; it must be a finite number above 0$"),
    ({"scale": float("inf")}, r"^`scale`: got inf; it must be a finite number above 0$"),
    ({"scale": "big"}, r"^`scale`: got 'big'; it must be a finite number above 0$"),
    ({"seed": -1}, r"^`seed`: got -1; it must be an integer from 0 to 2\^63 - 1$"),
    ({"seed": 2**63}, r"^`seed`: got 9223372036854775808; it must be an integer from 0 to 2\^63 - 1$"),
    ({"seed": 1.5}, r"^`seed`: got 1.5; it must be an integer"),
    ({"seed": True}, r"^`seed`: got True; it must be an integer"),
    (
        {"rates": (1.0, 0.0)},
        r"^`rates`: got 0.0; every rate must be a finite number above 0, one per layer or one",
    ),
    ({"rates": "1,fast"}, r"^`rates`: got 'fast'; every rate must be a finite number above 0"),
    ({"rates": "1,inf"}, r"^`rates`: got 'inf'; every rate"),
    ({"rates": [1.0, float("nan")]}, r"^`rates`: got nan; every rate"),
    ({"rates": 1e400}, r"^`rates`: got inf; every rate"),
    ({"rates": "1_0"}, r"^`rates`: got '1_0'; every rate"),
    ({"rates": True}, r"^`rates`: got True; every rate"),
    ({"rates": ()}, r"^`rates`: got \(\); every rate"),
    ({"rates": {"W1": 1.0}}, r"^`rates`: got {'W1': 1.0}; every rate"),
    ({"center": "yes"}, r"^`center`: got 'yes'; give true or false$"),
    ({"whiten": 1}, r"^`whiten`: got 1; give true or false$"),
    ({"rtol": 9e-14}, r"^`rtol`: got 9e-14; it must be a number from 1e-13 to below 0.1$"),
    ({"rtol": 0.1}, r"^`rtol`: got 0.1; it must be a number from 1e-13 to below 0.1$"),
    ({"tolerance": 1e-14}, r"^`tolerance`: got 1e-14; it must be a number above 1e-14 and below 1$"),
    ({"tolerance": float("nan")}, r"^`tolerance`: got nan; it must be a number above 1e-14 and below 1$"),
    ({"time": 0}, r"^`time`: got 0; it must be a finite number above 0; leave it out for no limit$"),
    ({"max_steps": 0}, r"^`max_steps`: got 0; it must be an integer of at least 1$"),
    ({"data": ""}, r"^`data`: got ''; give a task or a file as text, not empty and not beginning with '-'$"),
    ({"data": "-x"}, r"^`data`: got '-x'; give a task or a file as text"),
    ({"data": "\ud800"}, r"^`data`: got '\\ud800'; give a task or a file as text"),
    ({"data": 3}, r"^`data`: got 3; give a task or a file as text"),
    ({"target": ["a"]}, r"^`target`: got \['a'\]; give names of columns as text, with commas between them$"),
    ({"target": "x" * 0}, r"^`target`: got ''; give names of columns as text"),
    ({"data": {"x": "y" * 500}}, r"^`data`: got \{'x': 'y{50}\.\.\.; give a task or a file as text"),
    ({"sead": 1}, r"^`sead`: is no setting; did you mean 'seed'\? known are data, target, .*, hidden, .*, max_steps$"),
    ({"zzz": 1}, r"^`zzz`: is no setting; known are data, target, inputs, "),
    ({"self": 1}, r"^`self`: is no setting; known are data"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_wrong_settings_get_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Experiment(**arguments)
    assert type(caught.value) is ValueError and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (["hidden"], r"^`settings`: got 'hidden'; write key=value, such as seed=3$"),
        (["=3"], r"^`settings`: got '=3'; write key=value, such as seed=3$"),
        (["max-step=3"], r"^`max_step`: is no setting; did you mean 'max_steps'\? known are "),
        (["seed=1\nscale=2"], r"^`seed`: got '1\\nscale=2'; it must be an integer"),
        (["hidden=3,a"], r"^`hidden`: got 'a'; every width must be a positive integer$"),
        (["center=yes"], r"^`center`: got 'yes'; give true or false$"),
    ],
)
def test_wrong_settings_of_the_command_line(settings_, message):
    with pytest.raises(ValueError, match=message):
        Experiment().with_settings(settings_)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\nsead = 2\n", r"^`sead`: is no setting; did you mean 'seed'\? known are .* \(in 'run.toml'\)$"),
        (b"hidden = [3, 0]\n", r"^`hidden`: got 0; every width must be a positive integer \(in 'run.toml'\)$"),
        (b"[learn]\nseed = 1\n", r"^`learn`: is no setting; .* \(in 'run.toml'\)$"),
        (
            b"seed = \n",
            r"^`path`: 'run.toml' is not valid TOML \(Invalid value \(at line 1, column 8\)\); write lines such",
        ),
        (b"seed = 1\nseed = 2\n", r"^`path`: 'run.toml' is not valid TOML \(Cannot overwrite a value"),
        (b"seed = " + b"9" * 5000, r"^`path`: 'run.toml' is not valid TOML \(Exceeds the limit .*\); write lines such"),
        (b"seed = " + b"[" * 5000, r"^`path`: 'run.toml' is not valid TOML \(.*\); write lines such as seed = 3$"),
        (b"seed = 1.5", r"^`seed`: got 1.5; it must be an integer from 0 to .* \(in 'run.toml'\)$"),
        (b"hidden = [4.0]", r"^`hidden`: got 4.0; every width must be a positive integer \(in 'run.toml'\)$"),
        (b"\xff\xfe", r"^`path`: '.*run.toml' cannot be read \('utf-8' codec can't decode byte 0xff"),
    ],
)
def test_wrong_files_get_one_line(tmp_path, content, message):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Experiment.read(tmp_path / "run.toml")
    assert type(caught.value) is ValueError and "\n" not in str(caught.value)


def test_no_file_and_a_folder_and_a_byte_order_mark(tmp_path):
    with pytest.raises(ValueError, match=r"^`path`: there is no experiment file '.*no.toml'$"):
        Experiment.read(tmp_path / "no.toml")
    with pytest.raises(ValueError, match=r"^`path`: '.*' is a folder, not a file$"):
        Experiment.read(tmp_path)
    with pytest.raises(ValueError, match=r"^`path`: '/dev/zero' is a device or pipe, not a file$"):
        Experiment.read("/dev/zero")
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfseed = 4\n")
    assert Experiment.read(tmp_path / "run.toml") == Experiment(seed=4)


def test_experiments_know_neither_jax_nor_arrays():
    code = (
        "import sys, deeplinear.experiment as e; e.Experiment().digest(); "
        "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
