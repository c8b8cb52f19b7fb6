# The DAG for Snakemake. dvc.yaml holds the same DAG for DVC; tests/workflow/graph/test_graphs.py compares the two.
# The study is what params.yaml says: edit it, or `cp studies/cifar10.yaml params.yaml`.
from snakemake.utils import min_version

min_version("9.18")


##### Configuration #####


include: "workflow/rules/common.smk"


##### Rules #####


include: "workflow/rules/code.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/structure.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/tables.smk"


##### Target #####


rule all:
    default_target: True
    input:
        expand(rules.report.output, study=STUDY.study),
        # a file that was deleted is missed by nobody whose own files are there
        helpers.missing(STUDY),
    message:
        f"The study {STUDY.study} is complete"


##### One engine at a time, and one study #####


onstart:
    start()
