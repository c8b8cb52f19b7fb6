rule fetch:
    input:
        code=library_inputs(
            "moonshine/datasets",
            "moonshine/preparation",
            "moonshine/data/encoded.py",
            "moonshine/data/rgb.py",
            "moonshine/data/store.py",
            f"{PIPELINE}/stages/fetch.py",
        ),
    output:
        data="results/{study}/data/data.safetensors",
        dataset="results/{study}/data/dataset.json",
    log:
        "results/{study}/logs/fetch@{study}.log",
    threads: STUDY.runtime.threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 120,
    params:
        data=setting("data"),
    message:
        "Fetch the data of {wildcards.study}"
    shell:
        "python -m moonshine_workflow.stages.fetch --study {wildcards.study}"
