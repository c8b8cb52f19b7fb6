rule fetch:
    input:
        code=[
            "moonshine/data/arrays.py",
            "moonshine/data/cifar.py",
            "moonshine/data/digits.py",
            "moonshine/data/folder_listing.py",
            "moonshine/data/image_folder.py",
            "moonshine/data/pictures.py",
            "moonshine/data/preparation.py",
            "moonshine/data/source.py",
            "moonshine/data/splitting.py",
            "moonshine/data/store.py",
            "workflow/fetch.py",
        ],
    output:
        data="results/{study}/data/data.safetensors",
        dataset="results/{study}/data/dataset.json",
    log:
        "results/{study}/logs/fetch@{study}.log",
    params:
        data=setting("data"),
    message:
        "Fetch the data of {wildcards.study}"
    shell:
        "python -m workflow.fetch {wildcards.study}"
