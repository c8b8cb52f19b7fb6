# What a network is and what it costs. Neither waits for anything to be trained.
NETWORK = [
    "moonshine/blocks.py",
    "moonshine/modules.py",
    "moonshine/networks.py",
]
STRUCTURE = [*NETWORK, "moonshine/costs.py", "workflow/structure.py"]


rule structure:
    input:
        code=STRUCTURE,
        dataset=rules.fetch.output.dataset,
    output:
        "results/{study}/students/{student}/structure.json",
    log:
        "results/{study}/logs/structure@{study}-{student}.log",
    params:
        network=setting("teacher.network"),
        student=setting("students.{student}"),
    message:
        "Lay out {wildcards.student}"
    shell:
        "python -m workflow.structure {wildcards.study} {wildcards.student}"


rule measure:
    input:
        code=[*STRUCTURE, "workflow/measure.py"],
        dataset=rules.fetch.output.dataset,
    output:
        "results/{study}/students/{student}/cost.json",
    log:
        "results/{study}/logs/measure@{study}-{student}.log",
    params:
        network=setting("teacher.network"),
        student=setting("students.{student}"),
    message:
        "Measure {wildcards.student}"
    shell:
        "python -m workflow.measure {wildcards.study} {wildcards.student}"


rule measure_teacher:
    input:
        code=[*STRUCTURE, "workflow/measure.py"],
        dataset=rules.fetch.output.dataset,
    output:
        "results/{study}/measure/teacher.json",
    log:
        "results/{study}/logs/measure-teacher@{study}.log",
    params:
        network=setting("teacher.network"),
    message:
        "Measure the teacher"
    shell:
        "python -m workflow.measure {wildcards.study} teacher"
