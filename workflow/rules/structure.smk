# What a network is and what it costs. Neither waits for anything to be trained, nor depends on how it is trained.


rule structure_teacher:
    input:
        code=library_inputs(*NETWORK, *LAYOUT, *COSTS, f"{PIPELINE}/stages/structure_teacher.py"),
        dataset=rules.fetch.output.dataset,
    output:
        "results/{study}/structure/teacher.json",
    log:
        "results/{study}/logs/structure-teacher@{study}.log",
    priority: 100
    threads: STUDY.runtime.threads
    params:
        code=setting("code.teacher"),
        teacher=setting("layouts.teacher"),
    message:
        "Lay out the teacher"
    shell:
        "python -m moonshine_workflow.stages.structure_teacher --study {wildcards.study}"


rule structure:
    input:
        code=library_inputs(
            *NETWORK, *LAYOUT, *COSTS, *SIZES, *SEARCH, *TRAIN, f"{PIPELINE}/stages/structure.py"
        ),
        dataset=rules.fetch.output.dataset,
        teacher=rules.structure_teacher.output,
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
    message:
        "Lay out {wildcards.student}"
    shell:
        "python -m moonshine_workflow.stages.structure --study {wildcards.study} --student {wildcards.student}"


rule measure:
    input:
        code=library_inputs(*NETWORK, *LAYOUT, *COSTS, *SIZES, f"{PIPELINE}/stages/measure.py"),
        dataset=rules.fetch.output.dataset,
        structure=rules.structure.output,
        teacher=rules.structure_teacher.output,
    output:
        "results/{study}/students/{student}/cost.json",
    log:
        "results/{study}/logs/measure@{study}-{student}.log",
    threads: STUDY.runtime.threads
    params:
        ship=setting("ship"),
    message:
        "Measure {wildcards.student}"
    shell:
        "python -m moonshine_workflow.stages.measure --study {wildcards.study} --student {wildcards.student}"


rule measure_teacher:
    input:
        code=library_inputs(*NETWORK, *LAYOUT, *COSTS, *SIZES, f"{PIPELINE}/stages/measure.py"),
        dataset=rules.fetch.output.dataset,
        structure=rules.structure_teacher.output,
    output:
        "results/{study}/measure/teacher.json",
    log:
        "results/{study}/logs/measure-teacher@{study}.log",
    threads: STUDY.runtime.threads
    params:
        ship=setting("ship"),
    message:
        "Measure the teacher"
    shell:
        "python -m moonshine_workflow.stages.measure --study {wildcards.study}"
