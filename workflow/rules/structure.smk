# What a network is and what it costs. Neither waits for anything to be trained, nor asks how.


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
        code=setting("code.students.{student}"),
        student=setting("layouts.students.{student}"),
        teacher=setting("layouts.teacher"),
        teacher_code=setting("code.teacher"),
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
        teacher=setting("layouts.teacher"),
        teacher_code=setting("code.teacher"),
    message:
        "Measure {wildcards.student}"
    shell:
        "python -m moonshine_workflow.stages.measure --study {wildcards.study} --student {wildcards.student}"


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
        teacher=setting("layouts.teacher"),
        teacher_code=setting("code.teacher"),
    message:
        "Measure the teacher"
    shell:
        "python -m moonshine_workflow.stages.measure --study {wildcards.study}"
