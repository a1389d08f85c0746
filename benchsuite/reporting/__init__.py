"""What people read of the records: summaries, tables, terminal lines, one HTML page.

Nothing here measures, and nothing here mixes: rehearsals, stand-ins, device kinds and parameter
settings each stay in a group of their own.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "Checked": "checking.relation",
        "Finding": "checking.relation",
        "Group": "groups",
        "check_summary": "checking.summary",
        "groups_of": "groups",
        "judge_study": "judging",
        "load_items": "load",
        "load_records": "load",
        "render_page": "page.rendering",
        "rerun_command": "commands",
        "summarise": "summary",
        "terminal_lines": "text",
        "to_csv": "tables",
        "to_junit": "junit",
        "to_latex": "tables",
        "to_markdown": "tables",
        "to_yaml": "tables",
        "write_report": "report",
    },
)
