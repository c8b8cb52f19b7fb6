# The tables and the report. They read the files of exactly the students, methods and seeds in params.yaml, so what was
# removed there leaves them.
TRAINED = nodes.trained(STUDY)
PUBLISHED = library_inputs("studies/published")
SHOWN = {"category": "{study}", "subcategory": "Tables"}


rule collect:
    input:
        code=library_inputs(
            "moonshine/costs/budgets.py",
            "moonshine/costs/measured.py",
            *TABLES,
            f"{PIPELINE}/stages/collect.py",
            f"{PIPELINE}/training/configuration.py",
        ),
        published=PUBLISHED,
        costs=[
            expand(rules.measure_teacher.output, study=STUDY.study),
            expand(rules.measure.output, study=STUDY.study, student=STUDY.students),
        ],
        structures=[
            expand(rules.teacher.output.structure, study=STUDY.study),
            expand(rules.structure.output, study=STUDY.study, student=STUDY.students),
        ],
        trained=files(TRAINED, "metrics.json", "history.csv", "config.json"),
    output:
        runs=report(
            "results/{study}/tables/runs.csv",
            caption="../captions/runs.rst",
            labels={"table": "Every trained network"},
            **SHOWN,
        ),
        table=report(
            "results/{study}/tables/table.csv",
            caption="../captions/table.rst",
            labels={"table": "Error by student and method"},
            **SHOWN,
        ),
        latex="results/{study}/tables/table.tex",
        differences=report(
            "results/{study}/tables/differences.csv",
            caption="../captions/differences.rst",
            labels={"table": "Differences between methods"},
            **SHOWN,
        ),
        curves="results/{study}/tables/curves.csv",
        tables="results/{study}/tables/tables.json",
        metrics="results/{study}/metrics.json",
        choice="results/{study}/choice.json",
    log:
        "results/{study}/logs/collect@{study}.log",
    params:
        data=setting("data"),
        methods=setting("methods"),
        report=setting("report"),
        seeds=setting("seeds"),
        ship=setting("ship"),
        students=setting("students"),
        teacher=setting("teacher"),
    message:
        "Collect the tables of {wildcards.study}"
    shell:
        "python -m moonshine_workflow.stages.collect --study {wildcards.study}"


rule export:
    input:
        code=library_inputs(
            *NETWORK,
            *LAYOUT,
            *COSTS,
            *SIZES,
            *EXPORT,
            "moonshine/training/overlap.py",
            "moonshine/data",
            f"{PIPELINE}/stages/export.py",
            *TABLES,
        ),
        choice=rules.collect.output.choice,
        dataset=rules.fetch.output.dataset,
        tables=rules.collect.output.tables,
        trained=files(TRAINED, "weights.safetensors", "structure.json", "config.json"),
    output:
        directory("results/{study}/export"),
    log:
        "results/{study}/logs/export@{study}.log",
    threads: STUDY.runtime.threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 120,
    params:
        ship=setting("ship"),
    message:
        "Export the chosen student of {wildcards.study}"
    shell:
        "python -m moonshine_workflow.stages.export --study {wildcards.study}"


rule examples:
    input:
        code=library_inputs(
            *NETWORK,
            *TRAIN,
            f"{PIPELINE}/stages/examples.py",
            f"{PIPELINE}/report/label_map_images.py",
        ),
        dataset=rules.fetch.output.dataset,
        trained=files(TRAINED, "weights.safetensors", "structure.json"),
    output:
        directory("results/{study}/examples"),
    log:
        "results/{study}/logs/examples@{study}.log",
    threads: STUDY.runtime.threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 60,
    params:
        methods=setting("methods"),
        seeds=setting("seeds"),
        students=setting("students"),
    message:
        "Draw what the networks of {wildcards.study} see"
    shell:
        "python -m moonshine_workflow.stages.examples --study {wildcards.study}"


rule report:
    input:
        code=library_inputs(
            "notebooks/report.ipynb",
            "moonshine/costs/budgets.py",
            f"{PIPELINE}/report",
            *TABLES,
            f"{PIPELINE}/stages/report.py",
        ),
        published=PUBLISHED,
        dataset=rules.fetch.output.dataset,
        tables=[rules.collect.output.tables, rules.collect.output.curves],
        choice=rules.collect.output.choice,
        examples=rules.examples.output,
        export=rules.export.output,
        configs=files(TRAINED, "config.json"),
        teacher=expand(rules.teacher.output.structure, study=STUDY.study),
    output:
        html=report(
            "results/{study}/report.html",
            caption="../captions/report.rst",
            category="{study}",
            subcategory="Report",
            labels={"table": "Report"},
        ),
        notebook="results/{study}/report.ipynb",
    log:
        "results/{study}/logs/report@{study}.log",
    params:
        report=setting("report"),
    message:
        "Render the report of {wildcards.study}"
    shell:
        "python -m moonshine_workflow.stages.report --study {wildcards.study}"
