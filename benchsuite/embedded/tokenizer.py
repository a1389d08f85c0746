"""The embedded models' tokenizer: a byte-level BPE of 2,048 tokens with single digits."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from benchsuite.embedded import prompts, tasks, text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FOLDER = Path(__file__).with_name("tokenizer")
VOCABULARY = 2048
CONTEXT = 512
BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def train(folder: Path = FOLDER) -> None:
    """Learn the tokenizer from the train text and the train tasks and save it into ``folder``."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_examples(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)


def load(folder: Path = FOLDER) -> "PreTrainedTokenizerFast":
    """Return the tokenizer of a folder; it puts ``<s>`` before a text and pads on the left."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)


def _examples() -> list[str]:
    found = list(text.documents("train"))
    for task in tasks.NAMES:
        found += [prompts.block(item) for item in islice(tasks.stream(task, "train"), 8000)]
    return found
