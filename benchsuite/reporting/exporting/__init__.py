"""The report for a paper and for other programs: tables, figures, all records, a data card."""
