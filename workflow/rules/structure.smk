# What a network is and what it costs. Neither waits for anything to be trained, nor asks how.
TRAINED_TEACHER = ["seed", "weights", "weights_sha256", "weights_prefix"]


# What this writes is for DVC, which has no other way to see the user's own code.
rule sources:
    input:
        code=["moonshine/networks/sources.py", f"{PIPELINE}/stages/sources.py"],
    output:
        "results/{study}/sources.json",
    log:
        "results/{study}/logs/sources@{study}.log",
    params:
        code=own_code("sources"),
    message:
        "Look at the code that builds the networks of {wildcards.study}"
    shell:
        "python -m moonshine_workflow.stages.sources --study {wildcards.study}"


rule structure:
    input:
        code=[*NETWORK, *LAYOUT, *COSTS, *SIZES, *SEARCH, *TRAIN, f"{PIPELINE}/stages/structure.py"],
        dataset=rules.fetch.output.dataset,
    output:
        "results/{study}/students/{student}/structure.json",
    log:
        "results/{study}/logs/structure@{study}-{student}.log",
    threads: STUDY.runtime.threads
    # a mixed student is searched for here, and its finalists trained
    resources:
        gpu=lambda wildcards: gpus() * helpers.has_finalists(STUDY, wildcards.student),
        gpu_mem_mb=lambda wildcards, attempt: (
            gpus() * helpers.has_finalists(STUDY, wildcards.student) * attempt * 8000
        ),
        mem_mb=lambda wildcards, attempt: attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 120,
    params:
        code=own_code("sources.students.{student}"),
        student=setting("students.{student}", unread=["warm_start"]),
        teacher=setting("teacher", unread=TRAINED_TEACHER),
        teacher_code=own_code("sources.teacher"),
    message:
        "Lay out {wildcards.student}"
    shell:
        "python -m moonshine_workflow.stages.structure --study {wildcards.study} --student {wildcards.student}"


rule measure:
    input:
        code=[*NETWORK, *LAYOUT, *COSTS, *SIZES, f"{PIPELINE}/stages/measure.py"],
        dataset=rules.fetch.output.dataset,
        structure=rules.structure.output,
    output:
        "results/{study}/students/{student}/cost.json",
    log:
        "results/{study}/logs/measure@{study}-{student}.log",
    threads: STUDY.runtime.threads
    params:
        ship=setting("ship"),
        teacher=setting("teacher", unread=TRAINED_TEACHER),
        teacher_code=own_code("sources.teacher"),
    message:
        "Measure {wildcards.student}"
    shell:
        "python -m moonshine_workflow.stages.measure --study {wildcards.study} --network {wildcards.student}"


rule measure_teacher:
    input:
        code=[*NETWORK, *LAYOUT, *COSTS, *SIZES, f"{PIPELINE}/stages/measure.py"],
        dataset=rules.fetch.output.dataset,
    output:
        "results/{study}/measure/teacher.json",
    log:
        "results/{study}/logs/measure-teacher@{study}.log",
    threads: STUDY.runtime.threads
    params:
        ship=setting("ship"),
        teacher=setting("teacher", unread=TRAINED_TEACHER),
        teacher_code=own_code("sources.teacher"),
    message:
        "Measure the teacher"
    shell:
        "python -m moonshine_workflow.stages.measure --study {wildcards.study} --network teacher"
