"""The classifier that the course hands out is the file that its facts describe."""

import hashlib
import json

from safetensors.torch import load_file

from fcnlib.course.pretrain import CLASSIFIER, accuracy, new_classifier
from fcnlib.data import SHAPE_CLASSES


def test_the_classifier_is_as_good_as_its_facts_say():
    facts = json.loads(CLASSIFIER.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(CLASSIFIER.read_bytes()).hexdigest() == facts["sha256"]
    assert tuple(facts["classes"]) == SHAPE_CLASSES
    network = new_classifier()
    network.load_state_dict(load_file(CLASSIFIER))
    measured = accuracy(network)
    assert measured > 0.96 and abs(measured - facts["validation_accuracy"]) < 0.005


def test_it_is_small():
    assert CLASSIFIER.stat().st_size < 5e6
