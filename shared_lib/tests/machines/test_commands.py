"""The commands about offers, run at the double of AWS as a user runs them."""

import json
import re
import time
from types import SimpleNamespace

import pytest
from taskfleet import cli
from taskfleet.ledger import insertion
from taskfleet.ledger.database import create
from taskfleet.machines.catalogue import load

REGION = "us-west-1"


@pytest.fixture
def project(ec2, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "task.env").write_text("JOB_ID=sums\n")
    (folder / "config" / "pool.env").write_text(f"PROVIDER=aws\nREGIONS={REGION}\nMARKETS=spot on-demand\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def poe(project, capsys):
    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main(list(words))
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def kept(poe, tmp_path):
    """The cache file of the fetched catalogue."""
    assert poe("list_instance_types").code == 0
    [path] = (tmp_path / "cache").rglob("*.json")
    return path


def insert(project, number):
    database = create(project / "jobs" / "sums.db", job_id="sums", project=project, now=0.0)
    under_way = insertion.begin(database, source="test")
    under_way.add([f"t{n}" for n in range(number)], ["{}"] * number, ids_are_derived=False, now=0.0)
    under_way.accept(0.0)
    database.close()


def cheapest(path, market, cpus):
    """The lowest price per CPU of types that fit by default, by an exhaustive search."""
    catalogue = load(path)
    disk_usd = min(20 * one.usd_per_gib_month / 730 for one in catalogue.disks)
    return min(
        (price.usd_per_hour + disk_usd) / kind.cpus
        for (name, its_market), prices in catalogue.prices.items()
        for price in prices
        if its_market in market
        and (kind := catalogue.types[name]).architecture == "x86_64"
        and not kind.is_burstable
        and kind.cpus in cpus
        and kind.memory_gib >= 2
    )


def test_regions_are_listed_with_their_zones(poe):
    said = poe("list_regions", "--prefix", "us-w")
    assert said.code == 0
    assert any(line.split() == [REGION, "us-west-1a", "us-west-1b"] for line in said.out.splitlines())
    assert "eu-" not in said.out
    found = [json.loads(line) for line in poe("list_regions", "--json").out.splitlines()]
    assert {"region": REGION, "zones": ["us-west-1a", "us-west-1b"]} in found


def test_images_are_listed(poe):
    said = poe("list_images", "--architecture", "arm64", "--json")
    found = [json.loads(line) for line in said.out.splitlines()]
    assert found
    assert {one["architecture"] for one in found} == {"arm64"}
    assert "architecture" in poe("list_images").out


def test_types_are_listed_the_cheapest_per_task_first(poe, kept):
    said = poe("list_instance_types", "--json", "--limit", "0", "--cpus", "4-8")
    found = [json.loads(line) for line in said.out.splitlines()]
    prices = [one["usd_per_slot_hour"] for one in found]
    assert prices == sorted(prices)
    assert len({one["instance_type"] for one in found}) == len(found) > 20
    assert {one["cpus"] for one in found} == {4, 8}
    assert not any(one["is_burstable"] for one in found)
    by_name = poe("list_instance_types", "--sort", "name", "--detail", "--limit", "3")
    assert "… and" in by_name.out
    assert "processor" in by_name.out


def test_lists_are_filtered_sorted_and_limited_as_in_rms_cloud_tasks(poe, kept):
    def listed(*words):
        said = poe(*words, "--json")
        assert said.code == 0, said.err
        return [json.loads(line) for line in said.out.splitlines()]

    types = listed("list_instance_types", "--sort-by", "-vcpu,total_price", "--limit", "0")
    keys = [(-one["cpus"], one["usd_per_hour"]) for one in types]
    assert keys == sorted(keys)
    assert len({one["cpus"] for one in types}) > 2
    some = listed("list_instance_types", "--filter", "INTEL", "--limit", "4")
    assert len(some) == 4
    assert all("intel" in one["cpu_family"].lower() for one in some)
    regions = [
        one["region"] for one in listed("list_regions", "--filter", "west", "--sort-by", "-region", "--limit", "2")
    ]
    assert regions == sorted(regions, reverse=True)
    assert len(regions) == 2
    assert all("west" in one for one in regions)
    images = listed("list_images", "--filter", "ubuntu", "--sort-by", "-created", "--limit", "2")
    ages = [one["created_at"] for one in images]
    assert len(images) == 2
    assert ages == sorted(ages, reverse=True)
    assert set(images[0]) == {"id", "name", "architecture", "created_at", "provider"}
    assert [line.split() for line in poe("list_regions", "--prefix", REGION, "--detail").out.splitlines()][1:3] == [
        [REGION, "us-west-1a"],
        [REGION, "us-west-1b"],
    ]
    detail = poe("list_images", "--detail", "--limit", "1").out
    assert re.search(r"^architecture +(x86_64|arm64)$", detail, re.MULTILINE)
    assert "more; --limit 0 lists all." in detail
    assert (
        poe("list_regions", "--prefix", "eu-", "--filter", "mars").out
        == "No region matches --prefix eu- --filter mars.\n"
    )
    assert poe("list_images", "--filter", "mars").out == "No image matches --filter mars.\n"
    assert poe("list_images", "--filter", "mars", "--json").out == ""
    assert poe("list_instance_types", "--filter", "no such type").out.startswith("No type that fits matches --filter")
    wrong = poe("list_instance_types", "--sort-by", "nonsense")
    assert (wrong.code, "is not a field" in wrong.err) == (2, True)


def test_each_type_that_does_not_fit_has_its_reasons(poe, kept):
    said = poe("list_instance_types", "--rejected", "--json", "--limit", "0", "--instance-types", "c5.*")
    reasons = {one["instance_type"]: one["reasons"] for one in map(json.loads, said.out.splitlines())}
    assert json.loads(said.out.splitlines()[-1])["constraints"][0] == "instance_types"
    assert reasons["m5.large"] == ["instance types: not one of c5.*"]
    assert "c5.large" not in reasons
    assert "burstable" in str(reasons["t3.large"])


def test_prices_are_kept_and_fetched_again_when_they_are_old_or_requested(poe, kept, ec2):
    def fetches(*words):
        before = ec2.requests()["GetProducts"]
        said = poe(*words)
        assert said.code == 0, said.err
        return ec2.requests()["GetProducts"] - before, said.err

    n, text = fetches("list_instance_types")
    assert n == 0
    assert "just fetched" in text
    assert fetches("plan", "--refresh")[0] > 0
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps(content | {"fetched_at": time.time() - 3 * 3600}))
    n, text = fetches("plan")
    assert n == 0
    assert "3h" in text.replace(" ", "")
    assert fetches("plan", "--catalogue-hours", "2")[0] > 0


def test_without_an_account_the_kept_prices_do(poe, kept, ec2):
    ec2.fault("*", code="AuthFailure", status=401, times=None)
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps(content | {"fetched_at": 0.0}))
    said = poe("plan")
    assert said.code == 0, said.err
    assert "The cached prices are used." in said.err
    assert poe("plan", "--refresh").code == 1


def test_damaged_kept_prices_are_reported(poe, kept):
    kept.write_text(kept.read_text()[:100])
    said = poe("plan")
    assert said.code == 1
    assert "Delete the file" in said.err


def test_the_plan_is_the_cheapest_and_says_what_limits_it(poe, project, kept):
    insert(project, 1000)
    said = poe("plan", "--json", "--cpus", "8", "--machines", "1-7", "--hours-per-task", "0.5")
    plan = json.loads(said.out)
    assert plan["offer"]["usd_per_slot_hour"] == pytest.approx(cheapest(kept, ("spot", "on-demand"), [8]))
    assert (plan["machines"], plan["limited_by"]) == (7, "machines")
    assert plan["usd_per_hour"] == pytest.approx(7 * plan["offer"]["usd_per_hour"])
    assert plan["hours"] == pytest.approx(1000 * 0.5 / 56 + 120 / 3600)
    assert plan["usd"] == pytest.approx(plan["hours"] * plan["usd_per_hour"])
    text = poe("plan", "--cpus", "8", "--machines", "1-7", "--hours-per-task", "0.5", "--budget-usd", "0.01").out
    assert "7 machines of type" in text
    assert re.search(r"limited by: .*\(MACHINES\)\.", text)
    assert "exceeds the budget of 0.01 USD" in text
    assert "No machine was launched." in text


def test_no_more_machines_than_the_tasks_fill(poe, project, kept):
    insert(project, 20)
    plan = json.loads(poe("plan", "--json", "--cpus", "8").out)
    assert (plan["machines"], plan["limited_by"]) == (3, "tasks")
    assert plan["hours"] is None
    assert "unknown until some of them have run" in poe("plan", "--cpus", "8").out


def test_a_plan_before_anything_is_inserted(poe, kept):
    assert "no tasks are inserted" in poe("plan").out
    assert "No tasks are left" in poe("plan", "--tasks", "0").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cpus", "3"], "None of 6"),
        (["--cpus", "3"], "excludes most is: CPUs"),
        (["--cpus", "3"], "--rejected shows each type"),
        (["--cpus", "8-4"], "CPUS='8-4' is invalid; expected a range"),
        (["--cpus", "many"], "CPUS='many' is invalid; expected a number or a range"),
        (["--markets", "cheap"], "MARKETS='cheap' is invalid; expected spot, on-demand, or both"),
        (["--provider", "azure"], "PROVIDER='azure' is invalid; expected local, aws, gcp, slurm or ssh"),
        (["--regions", ""], "REGIONS is not set"),
        (["--provider", "gcp", "--regions", "us-central1"], "PROJECT_ID is not set"),
    ],
)
def test_what_makes_no_sense_is_reported_in_a_sentence(poe, kept, words, sentence, monkeypatch):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    said = poe("plan", *words)
    assert said.code == 2
    assert sentence in said.err
    assert "Traceback" not in said.err


def test_the_file_of_the_job_comes_before_that_of_the_pool(poe, project, kept):
    with (project / "config" / "task.env").open("a") as file:
        file.write("MACHINES=1-2\n")
    insert(project, 1000)
    assert json.loads(poe("plan", "--json").out)["machines"] == 2
    rows = poe("settings").out.splitlines()
    assert any(line.split()[:2] == ["MACHINES", "1-2"] and "task.env, line 2" in line for line in rows)
    assert any(line.split()[:2] == ["REGIONS", REGION] and "pool.env, line 2" in line for line in rows)
