"""The engine for clusters: on a local one as the local engine, and with nodes that come and go, played ones."""

from __future__ import annotations

import importlib.util
import os
import pickle
import time
from collections import deque
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cluster as clusters
from benchmarks.cluster import Attempt, Crew, Post, RayEngine, Share, share
from benchmarks.engine import Ended, Job, LocalEngine, Moved, Progressed, Result, Started
from benchmarks.node import (
    About,
    Begun,
    Build,
    CardJobs,
    Home,
    Jobs,
    Over,
    Packed,
    Ready,
    Stop,
    Told,
    Wanted,
    Work,
)
from benchmarks.nodes import (
    Cluster,
    Node,
    check_node,
    check_nodes,
    check_stores,
    device,
    environment,
    joined,
    share_artifacts,
    share_data,
)
from benchmarks.options import Machine
from gans.compute import devices
from gans.data import datasets, sent
from gans.errors import InputError
from tests.benchmarks.executors.test_processes import gone, results, wait_for
from tests.benchmarks.toys import (
    aborting,
    endless,
    exiting,
    killed,
    leaving,
    raising,
    refusing,
    slow,
    steady,
    telling,
    well,
)
from tests.conftest import until
from tests.gans.training.mdgan.test_cluster import free_port

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs ray: make setup EXTRAS=cluster"
)


def jobs_of(tmp_path, calls, seconds=60.0):
    limit = {endless: 1.2, telling: 1.2}
    return [
        Job(name, call, 10, tmp_path / name / "log.txt", limit.get(call, seconds)) for name, call in calls.items()
    ]


# --- on a cluster of this machine


@needs_ray
def test_a_cluster_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with (
        pytest.raises(InputError, match=r"no Ray cluster answers at RAY_ADDRESS=127.0.0.1:"),
        joined(Machine(engine="ray"), "http://x", ()),
    ):
        pass
    with joined(Machine(), "sqlite://", ()) as plain:
        assert plain.cluster is None


@pytest.fixture(scope="module")
def local():
    """A cluster of this machine, started once; the environment as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        before = dict(os.environ)
        found = Cluster()
        found.ready(3)
        yield found
        found.leave()
        os.environ.clear()
        os.environ.update(before)


@needs_ray
def test_jobs_end_as_they_do_locally(local, tmp_path):
    calls = {"well": well, "raising": raising, "refusing": refusing, "endless": endless, "telling": telling}
    calls |= {f"slow{n}": slow for n in range(3)}
    jobs = jobs_of(tmp_path, calls)
    here = list(RayEngine(local, Share(1, most=3)).run(jobs))
    assert results(here) == results(LocalEngine(3).run(jobs))
    assert sorted(e.job.name for e in here if isinstance(e, Started)) == sorted(calls)
    assert sorted(e.job.name for e in here if isinstance(e, Ended)) == sorted(calls)
    assert [(e.images, e.values) for e in here if isinstance(e, Progressed) and e.job.name == "well"] == [
        (3, {"loss": 0.5})
    ]
    assert (tmp_path / "well" / "log.txt").read_text() == 2 * "said on standard output\n"  # of both engines
    running, most = 0, 0
    for event in here:
        running += isinstance(event, Started) - isinstance(event, Ended)
        most = max(most, running)
    assert most == 3


@needs_ray
def test_a_job_that_kills_three_processes_has_failed_and_closing_the_engine_stops_the_others(local, tmp_path):
    pidfile = tmp_path / "pid"
    calls = {"killed": killed, "leaving": leaving, "endless": partial(endless, pidfile=str(pidfile))}
    events = RayEngine(local, Share(1, most=3)).run(jobs_of(tmp_path, calls))
    seen = []
    for event in events:
        seen.append(event)
        if len(results(seen)) == 2:
            break
    assert results(seen) == {
        "killed": Result("failed", "killed by SIGKILL (out of memory?), 3 times"),
        "leaving": Result("failed", "the worker exited with code 3, 3 times"),
    }
    assert [e.job.name for e in seen if isinstance(e, Moved)].count("killed") == 2
    assert sum(isinstance(e, Started) and e.job.name == "killed" for e in seen) == 1
    pid = wait_for(pidfile)
    events.close()
    assert gone(pid)


# --- with nodes that are played


class Gone(Exception):
    """What Ray raises for what died."""


class Nodes:
    """A cluster whose nodes do what they are told: a job ends as its call says, or stays."""

    def __init__(self, *names: str) -> None:
        self.alive = {name: Node(name, name, {"CPU": 2.0}) for name in names}
        self.told: dict[str, deque] = {}
        self.begun: list[tuple[str, str]] = []
        self.deaf: set[str] = set()  # nodes on which no host comes up
        self.strange: set[str] = set()  # that may not take part
        self.ray = SimpleNamespace(
            wait=self.wait, get=self.get, kill=lambda actor: None, exceptions=SimpleNamespace(RayError=Gone)
        )

    def nodes(self) -> list[Node]:
        return list(self.alive.values())

    def is_away(self, node: str) -> bool:
        return False

    def admit(self, node: Node) -> str:
        return "another version" if node.name in self.strange else ""

    def wait(self, news, **asked):
        return [one for one in news if one.node not in self.alive or self.told[one.node]], []

    def get(self, told):
        if told is Gone or told is None:
            raise Gone("The actor died because its node has died.")
        return told


class News:
    """What a host of such a node tells."""

    def __init__(self, node: str, nodes: Nodes) -> None:
        self.node, self.nodes = node, nodes

    def __next__(self):
        told = self.nodes.told[self.node]
        return told.popleft() if self.node in self.nodes.alive and told else Gone


class PlayedCrew(Crew):
    """Seats are free at once on the node with most room; jobs whose name begins with `stay` never end."""

    def reserve(self):
        taken = [seat.group for seat in self.seats]
        return max(self.cluster.alive, key=lambda name: 2 - taken.count(name))

    def placed(self, seat):
        if seat.group not in self.posts:
            self.posts[seat.group] = self.host(seat.group, seat.group, seat)
        return seat.group

    def free(self, seats):
        self.seats = [seat for seat in self.seats if seat not in seats]

    def host(self, key, node, seat):
        told = self.cluster.told[node] = deque([Gone] if node in self.cluster.deaf else [Ready()])

        def order(what):
            if isinstance(what, Work):
                self.cluster.begun.append((what.job.name, node))
                ends = [] if what.job.name.startswith("stay") else [Over(what.number, Result("finished"))]
                told.extend([Begun(what.number), Told(what.number, 5, {}), *ends])
            else:
                at_work = [attempt for seat in self.seats for attempt in seat.attempts.values()]
                told.extend(Over(attempt.number, Result("interrupted")) for attempt in at_work)

        return Post(key, node, SimpleNamespace(order=SimpleNamespace(remote=order)), News(node, self.cluster))


@pytest.fixture
def crew(tmp_path, monkeypatch):
    """What makes a crew for jobs of these names on nodes of these names."""
    monkeypatch.setattr(clusters, "SURVEY", 0.0)

    def make(names, *nodes: str) -> PlayedCrew:
        calls = dict.fromkeys(names, well)
        waiting = deque(Attempt(n, job) for n, job in enumerate(jobs_of(tmp_path, calls)))
        return PlayedCrew(Nodes(*nodes), Share(1), waiting)

    return make


def play(crew, rounds=20):
    return [event for _ in range(rounds) if crew.busy for event in crew.round()]


def test_what_ran_on_a_node_that_dies_goes_on_elsewhere(crew):
    played = crew(["stay", "b", "c", "d", "e"], "a", "b")
    before = play(played, 3)
    lost = {name for name, node in played.cluster.begun if node == "a"} - set(results(before))
    del played.cluster.alive["a"]
    played.cluster.begun.clear()
    after = play(played)
    moved = {event.job.name: event.why for event in after if isinstance(event, Moved)}
    assert moved == dict.fromkeys(moved, "node a (a) is gone")
    assert "stay" in moved
    assert moved.keys() <= lost <= {name for name, node in played.cluster.begun if node == "b"}
    assert results(before) | results(after) == dict.fromkeys("bcde", Result("finished"))
    begun = [event.job.name for event in (*before, *after) if isinstance(event, Started)]
    assert sorted(begun) == ["b", "c", "d", "e", "stay"]  # told once each


def test_a_node_that_joins_is_used(crew):
    played = crew(["stay1", "stay2", "stay3", "d"], "a")
    play(played, 3)
    assert {node for _, node in played.cluster.begun} == {"a"}
    played.cluster.alive["b"] = Node("b", "b", {"CPU": 2.0})
    assert results(play(played, 6)) == {"d": Result("finished")}
    assert ("stay3", "b") in played.cluster.begun


def test_a_node_that_joins_and_is_another_is_left_out(crew, capsys):
    played = crew(["stay1", "stay2", "stay3"], "a")
    play(played, 3)
    played.cluster.strange.add("b")
    played.cluster.alive["b"] = Node("b", "b", {"CPU": 2.0})
    play(played, 6)
    assert {node for _, node in played.cluster.begun} == {"a"}
    assert len(played.waiting) == 1
    assert capsys.readouterr().err == "another version; it is left out\n"


def test_a_node_on_which_no_host_comes_up_is_left_alone_and_waited_no_longer_for(crew):
    played = crew(["a1", "a2"], "a", "b")
    played.cluster.deaf.add("a")
    assert results(play(played)) == dict.fromkeys(["a1", "a2"], Result("finished"))
    assert {node for _, node in played.cluster.begun} == {"b"}
    alone = crew(["a1", "a2"], "a")
    alone.cluster.deaf.add("a")
    reason = "the cluster has had no room for it; The actor died"
    assert all(result.reason.startswith(reason) for result in results(play(alone)).values())


def test_a_crew_that_leaves_stops_its_jobs(crew):
    played = crew(["stay1", "stay2"], "a")
    play(played, 3)
    played.leave()
    assert not played.seats
    assert not played.waiting


def test_a_seat_with_a_gpu_has_some_jobs(crew):
    played = crew(["stay1", "stay2", "c", "d"], "a")
    played.share = Share(1, abreast=3)
    played.cluster.alive["a"] = Node("a", "a", {"CPU": 4.0, "GPU": 1.0})
    assert results(play(played)) == dict.fromkeys("cd", Result("finished"))
    (seat,) = played.seats
    assert len(seat.attempts) == 2
    assert played.share.needs == {"CPU": 3.0, "GPU": 1.0, "memory": 0.0}


# --- a host's jobs


def test_a_host_with_a_gpu_finds_out_who_kills_its_process(tmp_path):
    """The CPU in the place of the GPU: two jobs share a process, which one aborts."""
    orders, desk = Pipe(duplex=False)
    jobs, told = CardJobs(None, 2), []
    calls = {"aborting": partial(aborting, shared=str(tmp_path), others=1)}
    calls["steady"] = partial(steady, shared=str(tmp_path), starts=2)
    for number, job in enumerate(jobs_of(tmp_path, calls)):
        desk.send(Work(number, replace(job, call=Packed(pickle.dumps(job.call)))))
    deadline = time.monotonic() + 120
    while sum(isinstance(news, Over) for news in told) < 2 and time.monotonic() < deadline:
        told += jobs.look(orders)
    ended = {news.number: news.result for news in told if isinstance(news, Over)}
    assert ended[0] == Result("failed", "killed by SIGABRT")
    assert ended[1].status == "finished"
    assert sorted(news.number for news in told if isinstance(news, Begun)) == [0, 1]
    (stays,) = jobs_of(tmp_path, {"stays": partial(endless, pidfile=str(tmp_path / "pid"))})
    desk.send(Work(2, stays))
    while not (tmp_path / "pid").exists():
        list(jobs.look(orders))
    pid = wait_for(tmp_path / "pid")
    desk.send(Stop())
    assert list(jobs.look(orders)) == [Over(2, Result("interrupted"))]
    assert gone(pid)


def test_jobs_of_a_host_are_stopped_at_an_order(tmp_path):
    orders, desk = Pipe(duplex=False)
    jobs, told = Jobs(), []
    (job,) = jobs_of(tmp_path, {"exiting": exiting})
    (stays,) = jobs_of(tmp_path, {"slow": partial(endless, pidfile=str(tmp_path / "pid"))})
    desk.send(Work(3, replace(job, call=Packed(pickle.dumps(exiting)))))
    desk.send(Work(4, stays))
    deadline = time.monotonic() + 60
    while len(told) < 3 and time.monotonic() < deadline:
        told += jobs.look(orders)
    wait_for(tmp_path / "pid")
    desk.send(Stop())
    told += jobs.look(orders)
    assert told == [
        Begun(3),
        Begun(4),
        Over(3, Result("failed", "the worker exited with code 3"), died=True),
        Over(4, Result("interrupted")),
    ]
    until(lambda: gone(wait_for(tmp_path / "pid")))


# --- shares


class Played:
    """A cluster of two machines, as the options see it."""

    named = "10.0.0.1:6379"
    cores, machines = 4, 2
    gpus = 0.0

    def __init__(self) -> None:
        self.admitted, self.away = set(), set()

    def nodes(self):
        has = {"a": {"CPU": 4.0, "memory": 8 * 2**30}, "b": {"CPU": 9.0, "memory": 2**31}}
        return [Node(name, name, kinds | {"GPU": self.gpus}) for name, kinds in has.items()]


def test_what_a_job_books():
    nodes = Played().nodes()
    assert share(Machine(cluster=Played()), 100, 16).seats(nodes) == 4 + 2  # b has memory for two
    wide = share(Machine(cluster=Played(), jobs=2), 100, 16)
    assert (wide.threads, wide.seats(nodes)) == (2, 4)
    spread = share(Machine(cluster=Played()), 100, 16, workers=5)
    assert spread.seats(nodes) == 2  # 6 CPUs each, of 13
    alone = SimpleNamespace(named=None, cores=4, machines=1)
    assert share(Machine(cluster=alone), 100, 16) == Share(1, most=4)
    assert share(Machine(cluster=alone), 100, 16, workers=5) == Share(1, workers=5, most=1)
    assert share(Machine(cluster=alone, jobs=3), 2, 16) == Share(1, most=2)


def test_on_which_device_the_cells_of_a_cluster_are(monkeypatch):
    nodes = Played()
    assert device(Machine(cluster=nodes)) == "cpu"
    with pytest.raises(InputError, match="has no GPU; leave DEVICE out"):
        device(Machine("cuda", cluster=nodes))
    with pytest.raises(InputError, match="Ray's choice"):
        device(Machine("cuda:1", cluster=nodes))
    nodes.gpus = 1.0
    assert device(Machine("cpu", cluster=nodes)) == "cpu"
    monkeypatch.setattr(devices, "cards", lambda name: [])
    with pytest.raises(InputError, match=r"has GPUs and .* has none, by which precisions are planned"):
        device(Machine(cluster=nodes))
    monkeypatch.setattr(devices, "cards", lambda name: [0])
    monkeypatch.setattr(devices, "room", lambda device, gibibytes: 6)
    assert device(Machine(cluster=nodes)) == "cuda"
    booked = share(Machine("cuda", cluster=nodes), 100, 16)
    assert (booked.abreast, booked.threads, booked.seats(nodes.nodes())) == (6, 1, 0)  # 6 GiB of memory, 6 CPUs
    assert share(Machine("cuda", jobs=2, cluster=nodes), 100, 16).seats(nodes.nodes()) == 2


def test_a_cell_for_which_there_is_no_room_is_refused():
    clusters.require(Machine(cluster=Played()), 16, workers=12)
    with pytest.raises(InputError, match=r"no room for the largest cell, .* 1 CPUs .*13 CPUs for its workers"):
        clusters.require(Machine(cluster=Played()), 16, workers=13)


# --- nodes that cannot work together


HERE = Build("0.3.0 at commit abc", "12", "34", "3.11.7", "torch 2.13.0")
A = Node("a1b2c3d4", "alpha", {"CPU": 2.0})


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            About(replace(HERE, code="0.3.0 at commit def", files="13"), True, ""),
            r"the suite is 0.3.0 at commit abc .* and 0.3.0 at commit def \(files 13\) on node alpha \(a1b2c3\);",
        ),
        (About(replace(HERE, lock="35"), True, ""), "requirements.lock is 34 on .* and 35 on node alpha"),
        (
            About(replace(HERE, packages="torch 2.12.0"), True, ""),
            "packages is torch 2.13.0 .*torch 2.12.0 on node",
        ),
        (
            About(HERE, True, "cannot use the tracking store http://x"),
            "node alpha .*: cannot use the tracking",
        ),
        (
            About(HERE, False, ""),
            r"node alpha .* does not have the folder /elsewhere/runs of .*; name one .* or leave RUNS out",
        ),
        (ModuleNotFoundError("No module named 'benchmarks'"), "node alpha .* cannot run this suite: .*benchmarks"),
    ],
)
def test_a_node_that_cannot_take_part_is_refused_in_a_line(answer, says):
    with pytest.raises(InputError, match=says) as refused:
        check_node(A, answer, Machine(runs=Path("/elsewhere/runs")), HERE)
    assert len(str(refused.value).splitlines()) == 1


def test_a_build_says_what_runs():
    here = Build.here()
    assert here.difference(Build.here()) is None
    assert here.code.startswith("0.")
    assert "torch 2" in here.packages


def test_a_host_works_where_the_runner_does(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.chdir(tmp_path)
    home = Home.here("127.0.0.1:1", ())
    assert home.variables.items() >= {("MLFLOW_TRACKING_TOKEN", "secret"), ("OMP_NUM_THREADS", "7")}
    assert home.folder == str(Path.cwd())
    assert "PATH" not in home.variables


def test_an_engine_there_is_none_of_and_runs_without_a_folder_are_refused():
    with pytest.raises(InputError, match="unknown engine 'rai'; did you mean 'ray'"):
        Machine(engine="rai").validate()
    with pytest.raises(InputError, match=r"RUNS=s3://bucket/runs is no folder; take one, or ENGINE=ray"):
        Machine(runs=Path("s3://bucket/runs")).validate()
    assert Machine(runs=Path("s3://bucket/runs")).url == "s3://bucket/runs"
    assert Machine(runs=Path("file:///data/runs")).url == "file:///data/runs"
    assert Machine(runs=Path("runs")).url == ""


def test_what_is_no_environment_for_nodes_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "env.json"
    file.write_text('{"pip": ["s3fs"]}')
    assert environment(None) == {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match=r"RUNTIME_ENV=.*env.json is for a cluster that RAY_ADDRESS names"):
        environment(file)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert environment(file) == {"pip": ["s3fs"]}
    for text, says in (("[1]", "is no JSON object"), ("{", r"cannot be read: Expecting")):
        file.write_text(text)
        with pytest.raises(InputError, match=f"RUNTIME_ENV=.*{says}"):
            environment(file)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        environment(tmp_path / "none.json")


def test_builds_are_compared_by_their_files_and_told_by_their_commits():
    assert HERE.difference(replace(HERE, code="0.3.0")) is None  # a clone that was sent has no commit
    other = replace(HERE, code="0.3.0", files="13")
    assert HERE.difference(other) == ("the suite", "0.3.0 at commit abc (files 12)", "0.3.0 (files 13)")


# --- folders


def test_a_node_that_lacks_the_folder_of_runs_is_away_if_none_was_named(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Build, "here", classmethod(lambda cls: HERE))
    monkeypatch.setattr(Played, "home", lambda self: None, raising=False)
    asked = []

    def ask(self, call, home, file, uri, of):
        asked.append(Path(file))
        return {"a": About(HERE, True, ""), "b": About(HERE, False, "")}

    monkeypatch.setattr(Played, "ask", ask, raising=False)
    machine = Machine(cluster=Played())
    check_nodes(machine, "http://x", machine.cluster.nodes())
    assert machine.cluster.away == {"b"}
    assert asked[0].parent == tmp_path / "runs"
    assert capsys.readouterr().out.startswith(f"b (b) has no folder {tmp_path}/runs: what cells write there is")
    with pytest.raises(InputError, match=r"node b \(b\) does not have the folder"):
        check_nodes(Machine(runs=tmp_path, cluster=Played()), "http://x", Played().nodes())


def test_artifacts_that_go_to_a_folder_want_it_on_every_node(tmp_path, monkeypatch):
    sees = {"a": True, "b": True}

    def ask(self, call, home, file, of):
        assert Path(file).exists()
        return {node.id: sees[node.id] for node in of}

    monkeypatch.setattr(Played, "home", lambda self: None, raising=False)
    monkeypatch.setattr(Played, "ask", ask, raising=False)
    share_artifacts(Played(), None)
    share_artifacts(Played(), tmp_path / "mlruns")
    sees["b"] = False
    with pytest.raises(
        InputError, match=r"artifacts go to the folder .*mlruns of .*, which node b \(b\) does not"
    ):
        share_artifacts(Played(), tmp_path / "mlruns")
    assert list((tmp_path / "mlruns").iterdir()) == []


# --- data


class Answers:
    """A cluster of two further machines that answer questions about their data."""

    others = (Node("a1", "alpha", {"CPU": 2.0}), Node("b1", "beta", {"CPU": 2.0}))

    def __init__(self, **hashes: str | None) -> None:
        self.hashes, self.sent, self.data = hashes, [], {}

    def home(self) -> None:
        return None

    def ask(self, call, *arguments, of):
        return {node.id: self.hashes[node.name] for node in of}

    def send(self, wanted, to):
        self.sent.append((wanted.name, [node.name for node in to]))


def test_nodes_that_lack_data_are_sent_them_and_others_must_have_the_same():
    found = {Wanted("digits", 16): "0123456789abcdef"}
    same = Answers(alpha="0123456789abcdef", beta=None)
    share_data(same, found)
    assert same.sent == [("digits", ["beta"])]
    with pytest.raises(InputError, match=r"digits has the hash 0123456789ab on .* and fedc on node alpha \(a1\);"):
        share_data(Answers(alpha="fedc", beta="0123456789abcdef"), found)


def test_data_that_were_sent_are_the_same_data(tmp_path, monkeypatch, blobs):
    made = blobs(n=60)
    monkeypatch.setenv(sent.PLACE, str(tmp_path / "sent"))
    with pytest.raises(InputError, match="unknown data set"):
        datasets.load("elsewhere", resolution=16)
    asked = []

    def fetch(name, resolution):
        asked.append((name, resolution))
        sent.keep(name, resolution, sent.pack(made))
        return True

    monkeypatch.setattr(sent, "fetch", fetch)
    for _ in range(2):
        found = datasets.load("elsewhere", resolution=16)
    assert asked == [("elsewhere", 16)]
    assert found.hash == made.hash
    assert found.train.equal(made.train)
    assert found.classes == made.classes


def test_one_file_is_no_store_for_several_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(Build, "here", classmethod(lambda cls: HERE))
    machine = Machine(runs=tmp_path, cluster=Played())
    answers = {"a": About(HERE, True, ""), "b": About(HERE, True, "")}
    monkeypatch.setattr(Played, "ask", lambda self, *asked, of: answers, raising=False)
    monkeypatch.setattr(Played, "home", lambda self: None, raising=False)
    check_stores(machine, "http://x", "postgresql://me@db/study")
    check_nodes(machine, "http://x", machine.cluster.nodes())
    assert machine.cluster.admitted == {"a", "b"}
    with pytest.raises(InputError, match=r"store sqlite:///x.db is a file, which several .*; set MLFLOW_TRACKING"):
        check_stores(machine, "sqlite:///x.db", "")
    with pytest.raises(InputError, match=r"storage of a sweep sweeps.journal is a file, .* STORAGE=postgresql"):
        check_stores(machine, "http://x", "sweeps.journal")
    assert list(tmp_path.iterdir()) == []  # the file that nodes were asked for is gone
