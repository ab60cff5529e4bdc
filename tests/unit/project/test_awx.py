# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``extensions/awx`` names playbooks, variables, jobs and files that are there. Its modules are checked by ``make awx``."""
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
AWX = CHECKOUT / "extensions" / "awx"
TEMPLATES: list[dict[str, Any]] = yaml.safe_load((AWX / "job_templates.yml").read_text(encoding="utf-8"))
TASKS = {path.stem: path.read_text(encoding="utf-8") for path in (AWX / "tasks").glob("*.yml")}


def variables() -> set[str]:
    """Every variable of the roles, and every one that a playbook reads."""
    found: set[str] = set()
    for path in (CHECKOUT / "roles").glob("*/meta/argument_specs.yml"):
        found |= set(yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"])
    for path in (CHECKOUT / "playbooks").glob("*.yml"):
        found |= set(re.findall(r"\b(?:preflight|probe|patch_flow|report)_\w+", path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template["name"])
def test_a_job_runs_a_playbook_with_variables_that_it_knows(template: dict[str, Any]) -> None:
    path = AWX / "project" / template["playbook"]
    (play,) = yaml.safe_load(path.read_text(encoding="utf-8"))
    imported = play.get("ansible.builtin.import_playbook")
    assert imported is None or (CHECKOUT / "playbooks" / f"{imported.removeprefix('agentless.hyperv.')}.yml").is_file()
    asked = {question["variable"] for question in template.get("survey", ())} | set(template.get("extra_vars", {}))
    assert asked - variables() == set()
    for question in template.get("survey", ()):
        assert question["type"] != "multiplechoice" or question["default"] in question["choices"]


def test_the_workflow_and_the_schedules_name_jobs_that_are_made() -> None:
    names = {template["name"] for template in TEMPLATES}
    used = set(re.findall(r'"\{\{ awx_prefix \}\} ([a-z ]+)"', TASKS["workflow"]))
    assert used - names == {"night", "every night", "hosts"}  # the workflow itself, its schedule, the inventory
    nodes = yaml.safe_load(TASKS["workflow"])[0]["awx.awx.workflow_job_template"]["workflow_nodes"]
    identifiers = {node["identifier"] for node in nodes}
    reached = {after["identifier"] for node in nodes for listed in node.get("related", {}).values() for after in listed}
    assert reached == identifiers - {"sweep"}


def test_a_schedule_answers_the_survey_of_its_job() -> None:
    surveys = {template["name"]: template.get("survey", ()) for template in TEMPLATES}
    schedules = [task["awx.awx.schedule"] for task in yaml.safe_load(TASKS["workflow"]) if "awx.awx.schedule" in task]
    for schedule in schedules:
        survey = surveys.get(schedule["unified_job_template"].removeprefix("{{ awx_prefix }} "), ())
        assert set(schedule.get("extra_data", {})) == {question["variable"] for question in survey if question["required"]}
    assert len(schedules) == 2


def tasks_of(data: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, those of blocks, too."""
    for task in data:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part, ()))


def test_statistics_reach_the_jobs_that_follow() -> None:
    """A controller hands on what is set for the run, not for a host, as extra variables: the names of facts would be taken from roles."""
    names: set[str] = set()
    own = variables()
    for path in sorted((CHECKOUT / "roles").glob("*/tasks/*.yml")):
        for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
            own |= set(task.get("ansible.builtin.set_fact", ())) | {task.get("register")}
            statistics = task.get("ansible.builtin.set_stats", {"data": {}})
            assert not statistics.get("per_host"), path
            names |= set(statistics["data"])
    assert names == {"backup_results_by_host", "checkpoint_cleanup", "replica", "report", "restore_drill", "shadow_cleanup"}
    assert names & own == set()


def test_every_variable_of_the_site_has_an_example() -> None:
    given = set(yaml.safe_load((AWX / "vars.yml").read_text(encoding="utf-8")))
    read = set(re.findall(r"\bawx_\w+", "".join([(AWX / "configure.yml").read_text(encoding="utf-8"), *TASKS.values()])))
    assert read - {"awx_template"} == given


def test_slices_do_not_fail_for_names_of_other_slices() -> None:
    assert [template["extra_vars"]["backup_missing"] for template in TEMPLATES if template["playbook"] == "backup.yml"] == ["tell"]
