"""Encoder, heads, tokenizer and domain together: what a run makes and `seqmlm.load` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from seqmlm import __version__
from seqmlm.atomic_files import new_directory, remove_directory
from seqmlm.data.packing import PackedBatch, PackedTargets
from seqmlm.domain import Domain, build_domain
from seqmlm.encoding import Encoding
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.inference.embedding import Pooling, embed
from seqmlm.inference.fill_mask import Filling, fill_mask
from seqmlm.inference.generate import Continuation, generate
from seqmlm.inference.infill import Infilling, Strategy, infill
from seqmlm.inference.likelihood import pseudo_log_likelihood
from seqmlm.inference.sampling import Sampling
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.encoder import Encoder
from seqmlm.model.heads import TokenHead
from seqmlm.model.model_folder import (
    FORMAT_VERSION,
    OBJECTIVES_FILE,
    file_sha256,
    find_model_folder,
    read_model_config,
    read_weights,
)
from seqmlm.model.output_head import OutputHead, OutputHeadConfig
from seqmlm.model.pair_head import PairHead
from seqmlm.objectives.rows import LossSum, Objective, PrefixContext, TrainedObjective
from seqmlm.vocabulary import AllowedTokens, Vocabulary
from seqmlm_kernels.dispatch import AttentionBackward, BackendUnavailableError, select_backend


class Model(nn.Module):
    """One encoder with its heads and the domain that feeds it.

    Args:
        domain: reads, tokenises and labels units.
        config: of the encoder.
        head_transform: whether the token head has a dense layer before the projection.
        heads: output heads of the model by name, such as those of a fine-tuned one.
        has_pair_head: whether it tells pairs of tokens by its attention, as imported ESM-2 does.
        trained_objectives: what its token head has learned; generation must know.
        backend: of the kernels: ``auto``, ``reference``, ``torch`` or ``triton``.
        attention_backward: see :func:`seqmlm_kernels.attention`.
    """

    def __init__(
        self,
        domain: Domain,
        config: EncoderConfig,
        *,
        head_transform: bool = False,
        heads: Mapping[str, OutputHeadConfig] = MappingProxyType({}),
        has_pair_head: bool = False,
        trained_objectives: Iterable[TrainedObjective] = (),
        backend: str = "auto",
        attention_backward: AttentionBackward = "deterministic",
    ) -> None:
        super().__init__()
        self.domain = domain
        self.encoder = Encoder(config, backend=backend, attention_backward=attention_backward)
        self.token_head = TokenHead(
            config, lambda: self.encoder.token_embedding.weight, transform=head_transform
        )
        self.head_transform = head_transform
        self.trained_objectives = tuple(trained_objectives)
        self.heads = nn.ModuleDict({name: OutputHead(config, head) for name, head in heads.items()})
        self.pair_head = PairHead(config) if has_pair_head else None
        # What objectives train for themselves alone, by label: kept in checkpoints, and saved
        # beside the model for runs that start from it.
        self.objective_modules = nn.ModuleDict()

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the domain; its ids are the rows of the token embedding."""
        return self.domain.vocabulary

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.token_head.bias.device

    @property
    def allowed_tokens(self) -> Tensor:
        """Bitset int32 ``[1, words]`` of the tokens that the domain lets be predicted."""
        low, high = self.vocabulary.ranges[self.domain.name]
        words = AllowedTokens.of(range(low, high), len(self.vocabulary)).words
        return torch.from_numpy(words)[None].to(self.device)

    def add_objective_modules(self, objectives: Iterable[Objective]) -> None:
        """Build what the objectives train for themselves; needed before their losses."""
        for objective in objectives:
            module = objective.build_module(self.encoder.config)
            if module is not None:
                self.objective_modules[objective.name] = module

    def forward(self, batch: PackedBatch, *, rows: Tensor | None = None) -> Tensor:
        """Return hidden states ``[tokens, hidden_size]``; see :meth:`Encoder.forward`."""
        return self.encoder(batch, rows=rows)  # type: ignore[no-any-return]

    def log_probabilities_at(
        self, batch: PackedBatch, targets: PackedTargets, token_ids: Tensor
    ) -> Tensor:
        """Return log p of given ids at targets of a batch, nats; runs the encoder.

        Args:
            batch: on the device of the model.
            targets: whose rows are asked for; their labels are not read.
            token_ids: int64 ``[m]`` or ``[m, k]``.

        Returns:
            Shaped like ``token_ids``, among the tokens that the domain lets be predicted.
        """
        return self.token_head.log_probabilities(
            self(batch, rows=targets.rows),
            torch.arange(len(targets.rows), device=token_ids.device),
            token_ids,
            allowed=self.allowed_tokens,
            backend=self.encoder.backend,
        )

    def token_losses(self, hidden: Tensor, targets: PackedTargets) -> Tensor:
        """Return the token cross-entropy of each target, float ``[m]``, nats."""
        return self.token_head.loss(
            hidden,
            targets.rows,
            targets.labels,
            allowed=targets.allowed,
            allowed_index=targets.allowed_index,
            backend=self.encoder.backend,
        )

    def token_loss(self, hidden: Tensor, targets: PackedTargets) -> LossSum:
        """Return the weighted sum of the token cross-entropy, nats, and the sum of weights."""
        loss = self.token_losses(hidden, targets)
        if targets.weights is None:
            return LossSum(loss.sum(), loss.new_tensor(float(len(loss))))
        return LossSum((loss * targets.weights).sum(), targets.weights.sum())

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluation mode without gradients; the previous mode is back afterwards."""
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(was_training)

    def fill_mask(self, text: str, *, top_k: int = 5) -> list[list[Filling]]:
        """Return the ``top_k`` most probable tokens for each mask in ``text``, best first.

        All masks are filled independently from one forward pass.

        Raises:
            ConfigError: the model does not fill in masks, or ``top_k`` is out of range.
            DataError: the text cannot be encoded or holds no mask.
        """
        return fill_mask(self, text, top_k=top_k)

    def infill(
        self,
        texts: Sequence[str],
        *,
        strategy: Strategy = "sequential",
        temperature: float = 1.0,
        samples: int = 1,
        sweeps: int = 10,
        seed: int = 0,
        tokens_per_batch: int = 8192,
    ) -> list[list[Infilling]]:
        """Return ``samples`` fillings of all masks of each text, jointly chosen.

        Args:
            texts: each with at least one mask; they may lie side by side.
            strategy: in which order, given what; see :mod:`seqmlm.inference.infill`.
            temperature: of drawing; 0 takes the most probable token.
            samples: fillings of each text.
            sweeps: of ``gibbs``.
            seed: sample i of a text depends on the text, the seed and i alone.
            tokens_per_batch: bounds the memory; results do not depend on it.

        Raises:
            ConfigError: the model does not fill in masks, or an argument is out of range.
            DataError: a text cannot be encoded or holds no mask.
        """
        return infill(
            self,
            texts,
            strategy=strategy,
            sampling=Sampling(temperature=temperature),
            samples=samples,
            sweeps=sweeps,
            seed=seed,
            tokens_per_batch=tokens_per_batch,
        )

    def generate(
        self,
        prefixes: Sequence[str | Encoding],
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        samples: int = 1,
        seed: int = 0,
        context: PrefixContext | None = None,
    ) -> list[list[Continuation]]:
        """Return ``samples`` continuations of each prefix, up to the end token or the limit.

        Rows advance together; see :class:`~seqmlm.model.key_value_cache.KeyValueCache` for memory.

        Args:
            prefixes: texts, of which an empty one starts from nothing; or encodings, such as those
                of dialogues to be answered.
            max_tokens: most new tokens of each, the end token included.
            temperature: of drawing; 0 takes the most probable token.
            top_k: see :class:`~seqmlm.inference.sampling.Sampling`, as for ``top_p``.
            samples: continuations of each prefix.
            seed: sample i of a prefix depends on the prefix, the seed and i alone.
            context: how prefixes are read, ``causal`` or ``bidirectional``; by default as in the
                first of the model's objectives that continues texts.

        Raises:
            ConfigError: the model was not trained to continue texts from left to right, or an
                argument is out of range.
            DataError: a prefix cannot be encoded, or holds a mask.
        """
        return generate(
            self,
            prefixes,
            max_tokens=max_tokens,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
            samples=samples,
            seed=seed,
            context=context,
        )

    def pseudo_log_likelihood(
        self, texts: Sequence[str], *, tokens_per_batch: int = 8192
    ) -> list[float]:
        """Return for each text the sum over tokens of log p(token | all others), nats.

        Each maskable token is masked alone (Salazar et al., arXiv 1910.14659): one row per token,
        so the cost grows with the square of the length.

        Raises:
            ConfigError: the model does not fill in masks.
            DataError: a text cannot be encoded.
        """
        return [
            score.total
            for score in pseudo_log_likelihood(self, texts, tokens_per_batch=tokens_per_batch)
        ]

    def pseudo_perplexity(
        self, texts: Sequence[str], *, tokens_per_batch: int = 8192
    ) -> list[float]:
        """Return exp(-mean log p of the scored tokens) for each text; NaN if none is scored."""
        return [
            score.perplexity
            for score in pseudo_log_likelihood(self, texts, tokens_per_batch=tokens_per_batch)
        ]

    def embed(
        self, texts: Sequence[str], *, pooling: Pooling = "mean", tokens_per_batch: int = 8192
    ) -> Tensor:
        """Return one vector per text, float32 ``[texts, hidden_size]`` on the CPU.

        Args:
            texts: any number, of any length.
            pooling: ``mean`` over the tokens between the special ones, or ``cls``, the first.
            tokens_per_batch: bounds the memory; results do not depend on it.
        """
        return embed(self, texts, pooling=pooling, tokens_per_batch=tokens_per_batch)

    def exported_state(self) -> dict[str, Tensor]:
        """Return the weights that :meth:`save` keeps: all but those of the objectives."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("objective_modules.")
        }

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with any exported weight."""
        digest = hashlib.sha256()
        for name, value in sorted(self.exported_state().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and the tokenizer; replaces an older model.

        The new model is complete on disk, as ``<folder>-new``, before the old one goes.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        fresh = folder.with_name(f"{folder.name}-new")
        if fresh.exists():
            remove_directory(fresh)
        with new_directory(fresh) as temporary:
            weights = temporary / "model.safetensors"
            state = {name: value.contiguous() for name, value in self.exported_state().items()}
            save_file(state, weights)
            others = {
                name: value.contiguous()
                for name, value in self.state_dict().items()
                if name not in state
            }
            if others:
                save_file(others, temporary / OBJECTIVES_FILE)
            content = {
                "format_version": FORMAT_VERSION,
                "seqmlm_version": __version__,
                "domain": {"name": self.domain.registered_name, **self.domain.options},
                "encoder": self.encoder.config.to_json(),
                "token_head": {"transform": self.head_transform},
                "heads": {name: head.config.to_json() for name, head in self._heads()},
                "pair_head": self.pair_head is not None,
                "objectives": [asdict(objective) for objective in self.trained_objectives],
                "vocabulary": self.vocabulary.to_json(),
                "vocabulary_fingerprint": self.vocabulary.fingerprint(),
                "declared_types": list(self.domain.declared_types),
                "weights_sha256": file_sha256(weights),
                **(
                    {"objectives_sha256": file_sha256(temporary / OBJECTIVES_FILE)}
                    if others
                    else {}
                ),
            }
            (temporary / "config.json").write_text(json.dumps(content, indent=1) + "\n")
            self.domain.save_tokenizer(temporary)
        if folder.exists():
            remove_directory(folder)
        fresh.rename(folder)

    @classmethod
    def load(
        cls, path: str | Path, *, device: str | torch.device = "cpu", backend: str = "auto"
    ) -> Model:
        """Read a run folder, its ``model`` folder, or any folder that :meth:`save` wrote.

        Raises:
            CheckpointError: there is no model, it is damaged, or its vocabulary has changed.
            ConfigError: the backend cannot run on the device.
        """
        require_backend(backend, torch.device(device))
        folder = find_model_folder(Path(path))
        content = read_model_config(folder)
        domain = build_domain(content["domain"], where=f"{folder / 'config.json'}: domain")
        domain.load_tokenizer(folder)
        if domain.vocabulary.fingerprint() != content["vocabulary_fingerprint"]:
            raise CheckpointError(
                f"{folder}: the vocabulary of domain {domain.registered_name!r} has changed since "
                f"the model was trained (now {domain.vocabulary.fingerprint()}, then "
                f"{content['vocabulary_fingerprint']}): its ids would mean other tokens."
            )
        model = cls(
            domain,
            EncoderConfig.from_json(content["encoder"]),
            head_transform=content["token_head"]["transform"],
            heads={
                name: OutputHeadConfig.from_json(head)
                for name, head in content.get("heads", {}).items()
            },
            has_pair_head=content.get("pair_head", False),
            trained_objectives=[
                TrainedObjective(**objective) for objective in content.get("objectives", [])
            ],
            backend=backend,
        )
        model._load_weights(folder / "model.safetensors", content["weights_sha256"])
        return model.to(device).eval()

    def _heads(self) -> Iterator[tuple[str, OutputHead]]:
        for name, head in self.heads.items():
            assert isinstance(head, OutputHead)
            yield name, head

    def _load_weights(self, path: Path, sha256: str) -> None:
        try:
            self.load_state_dict(read_weights(path, sha256))
        except RuntimeError as error:
            raise CheckpointError(f"{path} cannot be loaded: {error}") from error


def require_backend(name: str, device: torch.device) -> None:
    """Refuse a backend of the kernels before anything is computed with it.

    Raises:
        ConfigError: there is none called ``name``, or it cannot run on ``device``.
    """
    try:
        select_backend(name, device)
    except (BackendUnavailableError, ValueError) as error:
        raise ConfigError(str(error)) from error
