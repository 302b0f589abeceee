"""A small Java project, and a model of it that knows types."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LEDGER: Final = """\
package bank;

import java.util.ArrayList;
import java.util.List;

/** Entries of one account, in order. */
public final class Ledger {
  private final String owner;
  private final List<Entry> entries = new ArrayList<>();
  private long balance;

  public Ledger(String owner) {
    this.owner = owner;
  }

  public void add(Entry entry) {
    entries.add(entry);
    balance += entry.amount();
  }

  public long balance() {
    return balance;
  }

  public Entry largest() {
    Entry best = null;
    for (Entry entry : entries) {
      if (best == null || entry.amount() > best.amount()) {
        best = entry;
      }
    }
    return best;
  }

  public String describe() {
    String label = owner;
    int count = entries.size();
    return label + ": " + count + " entries, " + balance;
  }
}
"""

ENTRY: Final = """\
package bank;

/** A payment. */
public final class Entry {
  private final String label;
  private final long amount;

  public Entry(String label, long amount) {
    this.label = label;
    this.amount = amount;
  }

  public long amount() {
    return amount;
  }

  public String label() {
    return label;
  }

  public boolean isLarger(Entry other, int factor) {
    return amount > factor * other.amount();
  }
}
"""


def write_project(folder: Path) -> Path:
    """Write the project, with as many variants of its files as a run needs."""
    folder.mkdir()
    for number in range(8):
        for name, text in (("Ledger", LEDGER), ("Entry", ENTRY)):
            path = folder / f"{name}{number}.java"
            path.write_text(text.replace(name, f"{name}{number}" if number else name))
    return folder
