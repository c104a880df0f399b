"""Devices by name, and how results tell them."""

import torch

import mmgraph_robust as mr
from mmgraph_robust.experiment import provenance as module
from mmgraph_robust.utils import device_name, is_on


def test_a_gpu_is_told_by_its_own_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Big GPU {torch.device(device).index or 0}")
    assert device_name("cpu") == device_name(torch.device("cpu")) == "cpu"
    assert device_name("meta") == "meta"
    assert device_name("cuda:1") == "Big GPU 1"
    data = mr.synthetic(num_users=10, num_items=8)
    told = module.provenance(data, "cuda:1")
    assert told["device"] == "cuda:1"
    assert told["machine"].endswith(" threads, Big GPU 1")
    assert module.provenance(data, "cpu")["machine"].endswith(" threads")


def test_the_current_gpu_is_the_one_meant_where_none_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert is_on(torch.device("cuda", 1), "cuda")
    assert not is_on(torch.device("cuda", 0), "cuda")
    assert is_on(torch.device("cuda", 0), "cuda:0")
    assert not is_on(torch.device("cpu"), "cuda")
