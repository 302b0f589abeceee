"""seqmlm score"""

from __future__ import annotations

from seqmlm.cli.options import AsJson, Backend, Data, Device, Run, TokensPerBatch

NAME = "score"
SUMMARY = "Pseudo-log-likelihood and pseudo-perplexity of each record."
EXAMPLES = """Examples:

seqmlm score runs/protein mine.fasta > scores.tsv

cat mine.fasta | seqmlm score runs/protein - --json"""


def run(
    run: Run,
    data: Data,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
    as_json: AsJson = False,
) -> None:
    """Pseudo-log-likelihood and pseudo-perplexity of each record, one line each.

    Every token is masked alone and predicted from all others; natural logarithms are summed.
    """
    import json
    import math

    from seqmlm.cli.reading import print_report
    from seqmlm.data.report import ReadReport
    from seqmlm.inference.likelihood import score_encoding
    from seqmlm.inference.records import encoded_records
    from seqmlm.model.model import Model
    from seqmlm.training.distributed import choose_device

    model = Model.load(run, device=choose_device(device), backend=backend)
    report = ReadReport()
    columns = ("name", "scored_tokens", "pseudo_log_likelihood", "pseudo_perplexity")
    if not as_json:
        print("\t".join(columns))
    for record, encoding in encoded_records(model.domain, data, report):
        score = score_encoding(model, encoding, tokens_per_batch=tokens_per_batch)
        values = (
            record.name,
            len(score.token_log_likelihoods),
            round(score.total, 4),
            round(score.perplexity, 4),
        )
        if as_json:
            # JSON has no NaN, which is the perplexity of a record without a scored token.
            perplexity = None if math.isnan(score.perplexity) else values[-1]
            print(
                json.dumps(dict(zip(columns, (*values[:-1], perplexity), strict=True))), flush=True
            )
        else:
            print("\t".join(map(str, values)), flush=True)
    print_report(report)
