"""What each model of recis_core.models reaches on data of a known truth, or beside a peer: `python -m bench models`.

    case.py      Case: a model's data, its training, its peer's, and the figure it is to reach
    cases.py     CASES, all of them
    records.py   a record a model and seed, in bench/results/cpu-models.jsonl
    table.py     the table in docs/models.md, made from the records

To add a model, write a file beside these with one Case, and name it in cases.py. `train(seed)` and `peer(seed)` each make
their data and model from the seed, train, and give a Trained; training.py and static_engine.py may help. Then run
`python -m bench models --only NAME` and `python -m bench models --write`.
"""
