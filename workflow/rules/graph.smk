# The graph for Snakemake: all that a Snakefile includes. dvc.yaml holds the same graph for DVC;
# tests/workflow/graph/test_graphs.py compares the two.
from snakemake.utils import min_version

min_version("9.18")


##### Configuration #####


include: "common.smk"


##### Rules #####


include: "code.smk"
include: "data.smk"
include: "structure.smk"
include: "training.smk"
include: "tables.smk"


# the rules have brought the manifests of the library up to date
refresh_dates()


##### Target #####

# A Snakefile's own rule `all` has it as its input: the target of an included file is not the default one.
COMPLETE = [
    expand(rules.report.output, study=STUDY.study),
    # a file that was deleted is missed by nobody whose own files are there
    helpers.missing(STUDY),
]


##### One engine at a time, and one study #####


onstart:
    start()
