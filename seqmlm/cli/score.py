"""seqmlm score"""

from __future__ import annotations

from seqmlm.cli.options import AsJson, Backend, Data, Device, Run, TokensPerBatch

NAME = "score"
SUMMARY = "(Pseudo-)log-likelihood and perplexity of each record."
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
    """Log-likelihood and perplexity of each record, one line each; natural logarithms are summed.

    A model that fills in masks gives the pseudo-log-likelihood: every token is masked alone and
    predicted from all others. One that was trained by causal objectives alone (clm, prefix_lm)
    gives the log-likelihood: every token but the first is predicted from those before it. The
    names of the columns say which.
    """
    import json
    import math

    from seqmlm.cli.reading import print_report
    from seqmlm.data.report import ReadReport
    from seqmlm.inference.likelihood import score_encoding
    from seqmlm.inference.records import encoded_records
    from seqmlm.model.model import Model
    from seqmlm.objectives.trained import causal_direction
    from seqmlm.training.distributed import choose_device

    model = Model.load(run, device=choose_device(device), backend=backend)
    report = ReadReport()
    kind = "pseudo_" if causal_direction(model.trained_objectives) is None else ""
    columns = ("name", "scored_tokens", f"{kind}log_likelihood", f"{kind}perplexity")
    has_header = as_json
    longest = model.encoder.config.longest_sequence
    for record, encoding in encoded_records(model.domain, data, report, longest=longest):
        score = score_encoding(model, encoding, tokens_per_batch=tokens_per_batch)
        if not has_header:  # only now: an error is not to stand under a header
            print("\t".join(columns))
            has_header = True
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
