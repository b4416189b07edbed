"""The flags of train.py: how many, their groups, help, units, and their table in the docs."""

import re

from launch.train_flags import GROUPS, define_flags

import train
from helpers.short_runs import ROOT


def test_at_most_50_flags_each_in_the_help_of_its_group_and_in_the_table_of_the_docs(capsys):
    assert train.main(["--help"]) == 0
    sections = re.split(r"^(\w+):$", capsys.readouterr().out, flags=re.MULTILINE)
    sections = dict(zip(sections[1::2], sections[2::2]))
    groups = define_flags().flags_by_module_dict()
    assert list(sections) == list(GROUPS) and groups.keys() == set(GROUPS)
    assert sum(len(group_flags) for group_flags in groups.values()) <= 50
    page = (ROOT / "docs/flags.md").read_text()
    for group, group_flags in groups.items():
        helped = set(re.findall(r"^  --(?:\[no\])?(\w+):", sections[group], re.MULTILINE))
        assert helped == {flag.name for flag in group_flags}
        assert f"| {group} | {' '.join(f'`--{flag.name}`' for flag in group_flags)} |" in page


def test_every_count_names_its_unit_in_brackets():
    units = r"\[[^\]]*\b(agent steps|frames|timesteps|episodes|environments|windows|updates|units)\b"
    all_flags = [flag for group_flags in define_flags().flags_by_module_dict().values() for flag in group_flags]
    without = [flag.name for flag in all_flags
               if flag.flag_type() == "int" and flag.name != "seed" and not re.search(units, flag.help)]
    assert without == [] and sum(flag.flag_type() == "int" for flag in all_flags) > 15
