# The nodes that train. On one machine `threads` and `gpu` count, and gpu_mem_mb where `--resources` gives its total;
# mem_mb and runtime (minutes) are for a cluster. A job that failed or ran out of time continues after its last epoch,
# and asks for more.
DEVICES = STUDY.training.devices
THREADS = helpers.cores(STUDY)
# a teacher that is only evaluated needs one process
TEACHER_DEVICES = DEVICES if STUDY.teacher.is_trained else 1


rule teacher:
    input:
        code=library_inputs(*TRAINING, f"{PIPELINE}/stages/teacher.py"),
        dataset=rules.fetch.output.dataset,
        structure=rules.structure_teacher.output,
    output:
        weights="results/{study}/teacher/weights.safetensors",
        structure="results/{study}/teacher/structure.json",
        metrics="results/{study}/teacher/metrics.json",
        history="results/{study}/teacher/history.csv",
        config="results/{study}/teacher/config.json",
    log:
        "results/{study}/logs/teacher@{study}.log",
    # most nodes wait for it, so it starts before those that do not
    priority: 100
    threads: TEACHER_DEVICES * THREADS
    resources:
        gpu=lambda wildcards: TEACHER_DEVICES * gpus(),
        gpu_mem_mb=lambda wildcards, attempt: TEACHER_DEVICES * gpus() * attempt * 8000,
        mem_mb=lambda wildcards, attempt: TEACHER_DEVICES * attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        augment=setting("augment"),
        teacher=setting("teacher"),
        training=setting("recipes.teacher"),
    message:
        "Train the teacher" if STUDY.teacher.is_trained else "Evaluate the teacher with its weights"
    shell:
        "python -m moonshine_workflow.stages.teacher --study {wildcards.study}"


rule scratch:
    input:
        code=library_inputs(*TRAINING, f"{PIPELINE}/stages/scratch.py"),
        dataset=rules.fetch.output.dataset,
        structure=rules.structure.output,
    output:
        weights="results/{study}/students/{student}/scratch/seed{seed}/weights.safetensors",
        structure="results/{study}/students/{student}/scratch/seed{seed}/structure.json",
        metrics="results/{study}/students/{student}/scratch/seed{seed}/metrics.json",
        history="results/{study}/students/{student}/scratch/seed{seed}/history.csv",
        config="results/{study}/students/{student}/scratch/seed{seed}/config.json",
    log:
        "results/{study}/logs/scratch@{study}-{student}-{seed}.log",
    priority: lambda wildcards: helpers.priority(STUDY, wildcards.seed)
    threads: DEVICES * THREADS
    resources:
        gpu=lambda wildcards: DEVICES * gpus(),
        gpu_mem_mb=lambda wildcards, attempt: DEVICES * gpus() * attempt * 8000,
        mem_mb=lambda wildcards, attempt: DEVICES * attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        augment=setting("augment"),
        training=setting("recipes.students.{student}"),
    message:
        "Train {wildcards.student} from scratch, seed {wildcards.seed}"
    shell:
        "python -m moonshine_workflow.stages.scratch --study {wildcards.study} --student {wildcards.student} --seed {wildcards.seed}"


rule distil:
    input:
        code=library_inputs(*TRAINING, *DISTILLATION, f"{PIPELINE}/stages/distil.py"),
        dataset=rules.fetch.output.dataset,
        structure=rules.structure.output,
        teacher_weights=rules.teacher.output.weights,
        teacher_structure=rules.teacher.output.structure,
    output:
        weights="results/{study}/students/{student}/{method}/seed{seed}/weights.safetensors",
        structure="results/{study}/students/{student}/{method}/seed{seed}/structure.json",
        metrics="results/{study}/students/{student}/{method}/seed{seed}/metrics.json",
        history="results/{study}/students/{student}/{method}/seed{seed}/history.csv",
        config="results/{study}/students/{student}/{method}/seed{seed}/config.json",
    log:
        "results/{study}/logs/distil@{study}-{student}-{method}-{seed}.log",
    priority: lambda wildcards: helpers.priority(STUDY, wildcards.seed)
    threads: DEVICES * THREADS
    resources:
        gpu=lambda wildcards: DEVICES * gpus(),
        gpu_mem_mb=lambda wildcards, attempt: DEVICES * gpus() * attempt * 8000,
        mem_mb=lambda wildcards, attempt: DEVICES * attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        augment=setting("augment"),
        method=setting("methods.{method}"),
        student=setting("students.{student}"),
        training=setting("recipes.students.{student}"),
    message:
        "Distil the teacher into {wildcards.student} with {wildcards.method}, seed {wildcards.seed}"
    shell:
        "python -m moonshine_workflow.stages.distil --study {wildcards.study} --student {wildcards.student} --method {wildcards.method} --seed {wildcards.seed}"
