# What the rules share: the checked study, and its names as wildcards.
from functools import partial

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from moonshine.config import load_study
from moonshine.errors import MoonshineError
from moonshine_workflow.engines import checksums, input_dates, locks
from moonshine_workflow.engines import rules as helpers
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.check import check_study
from moonshine_workflow.graph.library import check_module_names, library_inputs, refresh_library
from moonshine_workflow.graph.parameters import parameters, study_of_job
from moonshine_workflow.engines.rules import any_of, files

if config:
    raise WorkflowError(
        f"--config and --configfile are refused (found {', '.join(map(str, config))}): the stages read params.yaml. "
        "Edit params.yaml, copy a file of studies/ over it, or run `dvc exp run -S key=value`."
    )

try:
    check_module_names()
    if workflow.is_main_process:
        refresh_library()
    # a job on a cluster reads what the Snakemake that submitted it has read
    STUDY = load_study(nodes.PARAMS) if workflow.is_main_process else study_of_job()
    check_study(STUDY)
    setting = partial(helpers.setting, parameters(STUDY))
    library_inputs = partial(library_inputs, write=workflow.is_main_process)
    if workflow.is_main_process:
        for lock in locks.remove_stale_locks():
            logger.info(f"Removed {lock} of a Snakemake that was killed")
        if lost := checksums.lost_data(STUDY.study):
            logger.warning(lost)
except MoonshineError as error:
    raise WorkflowError(str(error))

helpers.prepare_environment(workflow.basedir)


wildcard_constraints:
    study=any_of([STUDY.study]),
    student=any_of(STUDY.students),
    method=any_of(STUDY.methods),
    seed=any_of(STUDY.seeds),


def gpus():
    """How many GPUs a device is: one, or none on CPUs. On a cluster, the machine that plans may have none to be found."""
    return helpers.gpus(STUDY, elsewhere=workflow.non_local_exec)


def refresh_dates():
    try:
        if workflow.is_main_process:
            input_dates.refresh_dates(nodes.all_nodes(STUDY))
    except MoonshineError as error:
        raise WorkflowError(str(error))


def start():
    try:
        locks.lock_dvc_out()
        if workflow.is_main_process:
            helpers.keep(STUDY)
    except MoonshineError as error:
        raise WorkflowError(str(error))
